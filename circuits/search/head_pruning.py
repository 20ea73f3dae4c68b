"""Head pruning: remove heads, layer by layer, as long as the metric stays near the layer's start.

1. Measure the metric at the start of the layer, with the heads removed so far: its baseline.
2. Remove the layer's heads one after another, each on top of those removed before it; a head after
   which the metric has fallen below (1 - max_drop) x baseline is put back.
3. Go on with the next layer, from 0 upwards. MLPs stay as they are. Of an encoder-decoder every
   attention is a layer here: the encoder's, then self- and cross-attention of each decoder layer.
4. Measure what is left on other, more examples than were searched on, with bootstrap intervals.

A head is removed by setting z, its attention-weighted values, to zero, or to z's mean over all
positions of the search's clean prompts. Only clean prompts run.

`max_drop` bounds each layer's loss, not the whole: L layers may leave (1 - max_drop)^L of the
metric. Where the metric is negative, as log-probabilities are, the drop is a share of its size.
Layers below the one under search are not run again (an encoder-decoder runs whole), and a layer's
heads are guessed ahead and run side by side (`speculation.py`); the verdicts are those of the plain
search.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from tqdm.auto import tqdm

from circuits.errors import CircuitsError
from circuits.graph import Provenance
from circuits.graph.provenance import DataRecord
from circuits.intervention.cached_modules import CachedModules
from circuits.metrics import Metric, metric_for
from circuits.models import HookedModel
from circuits.options.choices import HeadAblation
from circuits.options.run import RunOptions
from circuits.options.search import HeadPruningConfig
from circuits.provenance import describe_model, describe_pairs, versions
from circuits.runtime.batching import over_batches
from circuits.runtime.result_file import Record, ResultFile
from circuits.search.ablation import HeadAblationRun
from circuits.search.result import Step
from circuits.search.speculation import decide
from circuits.statistics.estimate import Estimate, mean_estimates
from tasks.pairs import PairBatch, PairSet

_TOKENS = 4096  # in one pass, copies included


class PrunedMetric(Record):
    """A metric of the whole model and of the pruned one on the same examples.

    drop: model minus pruned, paired.
    """

    model: Estimate
    pruned: Estimate
    drop: Estimate


class PruningEvaluation(Record):
    """The pruned model on other examples than it was searched on.

    data: those examples. searched_on: how many of them were searched on all the same.
    metrics: by name, the searched one first where it is made, in no order in a file.
    """

    data: DataRecord
    searched_on: int
    metrics: dict[str, PrunedMetric]


class HeadPruning(ResultFile):
    """`heads.json`: what is left of a model's heads.

    kept: per layer (attention), the heads that stay.
    baselines: the metric at the start of each layer, on the searched examples.
    history: every trial. metric_model, metric_pruned: on those examples.
    max_drop, ablation: the settings. provenance: metric, data, model and versions.
    evaluation: on other examples, where some were given.
    """

    KIND: ClassVar[str] = "head-pruning"

    kept: tuple[tuple[int, ...], ...]
    baselines: tuple[float, ...]
    history: tuple[Step, ...]
    metric_model: float
    metric_pruned: float
    max_drop: float
    ablation: HeadAblation
    provenance: Provenance
    evaluation: PruningEvaluation | None = Field(default=None)

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads kept."""
        return tuple(step.name for step in self.history if step.kept)


def prune_heads(
    model: HookedModel,
    pairs: PairSet,
    config: HeadPruningConfig,
    *,
    metric: str | None = None,
    evaluate_on: PairSet | None = None,
    evaluate_by: Iterable[str] = (),
    options: RunOptions | None = None,
) -> HeadPruning:
    """Search for the heads that a behaviour needs.

    Args:
        model: the model to prune.
        pairs: examples; only their clean prompts run.
        config: the share of the metric that may be lost, and the ablation.
        metric: a name from `circuits.metrics`; None takes the pairs' own.
        evaluate_on: other examples for the pruned model.
        evaluate_by: metrics to evaluate by, besides `metric`.
        options: batch size, the seed of resamples, and progress bars.

    Returns:
        The heads that stay, every trial, and the pruned model's metrics on `evaluate_on`.

    Raises:
        CircuitsError: for a metric that is 0 for the whole model.
    """
    options = options or RunOptions()
    judge = metric_for(pairs, metric)
    if judge.needs_reference:
        raise CircuitsError(
            f"{judge.name} is 0 for the whole model, so no max_drop can be a share of it; prune "
            "by accuracy, logit-difference or answer-log-probability"
        )
    names = tuple(dict.fromkeys([judge.name, *evaluate_by]))
    judges = [] if evaluate_on is None else [metric_for(evaluate_on, name) for name in names]
    model.validate(pairs)
    heads = HeadAblationRun.of(model, config.ablation, pairs, options=options)
    search = _Pruning(heads, pairs, judge, config.max_drop, options.batch_size)
    layers = range(len(model.layout.attentions))
    full_metric = search.current
    baselines = []
    for layer in tqdm(layers, desc="pruning heads", unit="layer", disable=not options.progress):
        baselines.append(search.current)
        search.prune(layer)
    evaluation = None
    if evaluate_on is not None:
        values = _measured(heads, search.off, evaluate_on, judges, options)
        evaluation = PruningEvaluation(
            data=describe_pairs(evaluate_on),
            searched_on=evaluate_on.shared(pairs.fingerprints),
            metrics={
                name: _estimated(metric_values, options.seed)
                for name, metric_values in zip(names, values, strict=True)
            },
        )
    return HeadPruning(
        kept=tuple(tuple((~row).nonzero().flatten().tolist()) for row in search.off),
        baselines=tuple(baselines),
        history=tuple(search.history),
        metric_model=full_metric,
        metric_pruned=search.current,
        max_drop=config.max_drop,
        ablation=config.ablation,
        provenance=Provenance(
            method="head-pruning",
            metric=judge.name,
            batch_size=options.batch_size,
            seed=options.seed,
            data=describe_pairs(pairs),
            pairs=tuple(pairs.fingerprints),
            model=describe_model(model),
            versions=versions(),
        ),
        evaluation=evaluation,
    )


class _Pruning:
    """A search under way. off: heads removed so far. current: the metric without them."""

    def __init__(
        self,
        heads: HeadAblationRun,
        pairs: PairSet,
        metric: Metric,
        max_drop: float,
        batch_size: int | None,
    ) -> None:
        self.heads, self.metric, self.max_drop, self.n = heads, metric, max_drop, len(pairs)
        self.model = heads.model
        layout = self.model.layout
        self.names = [attention.prefix for attention in layout.attentions]
        self.off = torch.zeros(len(self.names), layout.n_heads, dtype=torch.bool)
        self.history: list[Step] = []
        # An encoder-decoder's blocks hand on more than the stream, so none of them is skipped.
        encoder_decoder = layout.n_encoder_layers > 0
        self.blocks = [] if encoder_decoder else [layer.block for layer in self.model.view.layers]
        self.batches = [
            (batch, replay)
            for batch, replay in over_batches(
                self.model,
                pairs,
                self._start,
                batch_size=batch_size,
            )
        ]
        longest = max(batch.clean.numel() for batch, _ in self.batches)
        self.width = max(1, _TOKENS // longest)
        self.current = self.measure(self.off[None], 0)[0]

    def prune(self, layer: int) -> None:
        """Decide on a layer's heads, then let the layers above start from what is left of it."""
        size, base = abs(self.current), self.off.clone()
        first = layer if self.blocks else 0
        floor = self.current - self.max_drop * size

        def measure(sets: list[tuple[int, ...]]) -> list[float]:
            masks = base.repeat(len(sets), 1, 1)
            for mask, heads in zip(masks, sets, strict=True):
                mask[layer, list(heads)] = True
            return self.measure(masks, first)

        for decision in decide(
            range(self.off.shape[1]),
            self.current,
            measure,
            lambda _, after: after < floor,
            width=self.width,
            guess=lambda _: False,
        ):
            name = f"{self.names[layer]}.h{decision.candidate}"
            self.history.append(Step(name, decision.before, decision.after, decision.kept))
            self.off[layer, decision.candidate] = not decision.kept
            self.current = decision.before if decision.kept else decision.after
        for batch, replay in self.batches if self.blocks else ():
            with replay.skipping(self.blocks[:layer]), replay.recording():
                self.heads.logits(batch, self.off[None], first=layer)

    def measure(self, off: Bool[Tensor, "copy layer head"], first: int) -> list[float]:
        """The mean metric without each copy's heads; layers before `first` are as settled."""
        totals = torch.zeros(len(off), dtype=torch.float64)
        for batch, replay in self.batches:
            with replay.skipping(self.blocks[:first], len(off)):
                logits = self.heads.logits(batch, off, first=first)
            values = [self.metric(run_logits, batch).double().sum().cpu() for run_logits in logits]
            totals += torch.stack(values)
        means: list[float] = (totals / self.n).tolist()
        return means

    def _start(self, _: HookedModel, batch: PairBatch) -> CachedModules:
        replay = CachedModules(self.blocks)
        with replay.recording():
            self.heads.logits(batch, self.off[None])
        return replay


def _measured(
    heads: HeadAblationRun,
    off: Bool[Tensor, "layer head"],
    pairs: PairSet,
    metrics: list[Metric],
    options: RunOptions,
) -> Float[Tensor, "metric example 2"]:
    """Each example's metrics of the whole model and of the pruned one."""
    heads.model.validate(pairs)
    values = torch.zeros(len(metrics), len(pairs), 2, dtype=torch.float64)
    masks = torch.stack([torch.zeros_like(off), off])

    def work(_: HookedModel, batch: PairBatch) -> Float[Tensor, "metric batch 2"]:
        full_logits, pruned_logits = heads.logits(batch, masks)
        return torch.stack(
            [
                torch.stack(
                    [metric(logits, batch, full_logits) for logits in (full_logits, pruned_logits)],
                    dim=-1,
                )
                for metric in metrics
            ]
        )

    for batch, batch_values in over_batches(
        heads.model,
        pairs,
        work,
        batch_size=options.batch_size,
        progress="evaluating" if options.progress else None,
    ):
        values[:, batch.index.cpu()] = batch_values.double().cpu()
    return values


def _estimated(values: Float[Tensor, "example 2"], seed: int) -> PrunedMetric:
    columns = torch.cat([values, values[:, :1] - values[:, 1:]], dim=1)
    if len(values) == 1:  # no interval
        model, pruned, drop = (Estimate(x, math.nan, math.nan, 1) for x in columns[0].tolist())
    else:
        model, pruned, drop = mean_estimates(columns, n_resamples=2000, seed=seed)
    return PrunedMetric(model=model, pruned=pruned, drop=drop)
