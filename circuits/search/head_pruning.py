"""Head pruning: remove heads, layer by layer, as long as the metric stays near the layer's start.

1. Measure the metric at the start of the layer, with the heads removed so far: its baseline.
2. Remove the layer's heads one after another, each on top of those removed before it; a head after
   which the metric has fallen below (1 - threshold) x baseline is put back.
3. Go on with the next layer, from 0 upwards. MLPs stay as they are. Of an encoder-decoder every
   attention is a layer here: the encoder's, then self- and cross-attention of each decoder layer.
4. Measure what is left on other, more examples than were searched on, with bootstrap intervals.

A head is removed by setting z, its attention-weighted values, to zero, or to z's mean over all
positions of the search's clean prompts. Only clean prompts run.

The threshold bounds each layer's loss, not the whole: L layers may leave (1 - threshold)^L of the
metric. Where the metric is negative, as log-probabilities are, the fall is a share of its size.
Layers below the one under search are not run again (an encoder-decoder runs whole), and a layer's
heads are guessed ahead and run side by side (`speculation.py`); the verdicts are those of the plain
search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from circuits.errors import CircuitsError, error_context
from circuits.metrics import Metric, metric_for
from circuits.models import HookedModel
from circuits.provenance import describe_model, describe_pairs, versions
from circuits.runtime.batching import over_batches
from circuits.runtime.files import read_json, require_known, write_json
from circuits.search.ablation import HeadAblationRun
from circuits.search.replay import CachedModules
from circuits.search.result import Step, history_rows, history_steps
from circuits.search.speculation import decide
from circuits.statistics import mean_interval, resample_weights
from tasks.pairs import PairBatch, PairSet

_TOKENS = 4096  # in one pass, copies included


@dataclass(frozen=True)
class Evaluation:
    """The whole model and the pruned one on the same examples, 95 % bootstrap intervals.

    Each of model, pruned and fall (model - pruned, paired) is (value, low, high).
    """

    n: int
    model: tuple[float, float, float]
    pruned: tuple[float, float, float]
    fall: tuple[float, float, float]


@dataclass(frozen=True)
class HeadPruning:
    """What is left of a model's heads.

    kept: per layer (attention), the heads that stay. baselines: the metric at the start of each, on
        the searched examples. history: every trial. metric_model, metric_pruned: on those examples.
    evaluation: on others, by metric; empty where none were given.
    """

    kept: tuple[tuple[int, ...], ...]
    baselines: tuple[float, ...]
    history: tuple[Step, ...]
    metric_model: float
    metric_pruned: float
    evaluation: Mapping[str, Evaluation] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads kept."""
        return tuple(step.name for step in self.history if step.kept)

    def save(self, path: str | Path) -> None:
        """Write the search as JSON."""
        write_json(
            path,
            {
                "kept": [list(heads) for heads in self.kept],
                "baselines": list(self.baselines),
                "history": history_rows(self.history),
                "metric_model": self.metric_model,
                "metric_pruned": self.metric_pruned,
                "evaluation": {name: asdict(each) for name, each in self.evaluation.items()},
                "details": self.details,
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> HeadPruning:
        """Read what `save` wrote; a key that this version does not know is refused by name."""
        record = read_json(path)
        try:
            with error_context(str(path)):
                require_known(record, [field.name for field in fields(cls)])
                return cls(
                    tuple(tuple(heads) for heads in record["kept"]),
                    tuple(record["baselines"]),
                    history_steps(record["history"]),
                    record["metric_model"],
                    record["metric_pruned"],
                    {name: _loaded(each) for name, each in record["evaluation"].items()},
                    record["details"],
                )
        except CircuitsError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CircuitsError(f"{path}: not a head-pruning file ({error!r})") from error


def prune_heads(
    model: HookedModel,
    pairs: PairSet,
    threshold: float,
    *,
    metric: str | None = None,
    ablation: str = "zero",
    evaluate_on: PairSet | None = None,
    evaluate_by: Iterable[str] = (),
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> HeadPruning:
    """Search for the heads that a behaviour needs.

    threshold: the share of a layer's baseline that may be lost in the layer.
    metric: a name from `circuits.metrics`; None takes the pairs' own.
    ablation: "zero" or "mean" of a head's z.
    evaluate_on: other examples for the pruned model, by `metric` and those of `evaluate_by`;
        details["evaluated_on"]["searched_on"] says how many of them are not.
    """
    judge = metric_for(pairs, metric)
    if not 0 <= threshold < 1:
        raise CircuitsError(f"threshold {threshold}: a share of the baseline, from 0 to below 1")
    if judge.needs_reference:
        raise CircuitsError(
            f"{judge.name} is 0 for the whole model, so no threshold can be a share of it; prune "
            "by accuracy, logit-difference or answer-log-probability"
        )
    others = dict.fromkeys([judge.name, *evaluate_by])
    judges = [] if evaluate_on is None else [metric_for(evaluate_on, name) for name in others]
    model.validate(pairs)
    heads = HeadAblationRun.of(model, ablation, pairs, batch_size=batch_size)
    search = _Pruning(heads, pairs, judge, threshold, batch_size)
    layers = range(len(model.layout.attentions))
    whole = search.current
    baselines = []
    for layer in tqdm(layers, desc="pruning heads", unit="layer", disable=not progress):
        baselines.append(search.current)
        search.prune(layer)
    details: dict[str, Any] = {
        "method": "head-pruning",
        "settings": {"threshold": threshold, "ablation": ablation},
        "metric": judge.name,
        "batch_size": batch_size,
        "seed": seed,
        "data": describe_pairs(pairs).model_dump(mode="json"),
        "pairs": pairs.fingerprints,
        "model": describe_model(model).model_dump(mode="json"),
        "versions": versions().model_dump(),
    }
    evaluation = {}
    if evaluate_on is not None:
        shared = evaluate_on.shared(pairs.fingerprints)
        details["evaluated_on"] = {
            **describe_pairs(evaluate_on).model_dump(mode="json"),
            "searched_on": shared,
        }
        values = _measured(heads, search.off, evaluate_on, judges, batch_size, progress)
        for name, each in zip(others, values, strict=True):
            evaluation[name] = _estimated(each, seed)
    return HeadPruning(
        tuple(tuple((~row).nonzero().flatten().tolist()) for row in search.off),
        tuple(baselines),
        tuple(search.history),
        whole,
        search.current,
        evaluation,
        details,
    )


class _Pruning:
    """A search under way. off: heads removed so far. current: the metric without them."""

    def __init__(
        self,
        heads: HeadAblationRun,
        pairs: PairSet,
        metric: Metric,
        threshold: float,
        batch_size: int | None,
    ) -> None:
        self.heads, self.metric, self.threshold, self.n = heads, metric, threshold, len(pairs)
        self.model = heads.model
        layout = self.model.layout
        self.names = [attention.prefix for attention in layout.attentions]
        self.off = torch.zeros(len(self.names), layout.n_heads, dtype=torch.bool)
        self.history: list[Step] = []
        # An encoder-decoder's blocks hand on more than the stream, so none of them is skipped.
        whole = layout.n_encoder_layers > 0
        self.blocks = [] if whole else [layer.block for layer in self.model.view.layers]
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
        floor = self.current - self.threshold * size

        def measure(sets: list[tuple[int, ...]]) -> list[float]:
            masks = base.repeat(len(sets), 1, 1)
            for mask, heads in zip(masks, sets, strict=True):
                mask[layer, list(heads)] = True
            return self.measure(masks, first)

        for made in decide(
            range(self.off.shape[1]),
            self.current,
            measure,
            lambda _, after: after < floor,
            width=self.width,
            guess=lambda _: False,
        ):
            name = f"{self.names[layer]}.h{made.cut}"
            self.history.append(Step(name, made.before, made.after, made.kept))
            self.off[layer, made.cut] = not made.kept
            self.current = made.before if made.kept else made.after
        for batch, replay in self.batches if self.blocks else ():
            with replay.skipping(self.blocks[:layer]), replay.recording():
                self.heads.logits(batch, self.off[None], first=layer)

    def measure(self, off: Bool[Tensor, "copy layer head"], first: int) -> list[float]:
        """The mean metric without each copy's heads; layers before `first` are as settled."""
        totals = torch.zeros(len(off), dtype=torch.float64)
        for batch, replay in self.batches:
            with replay.skipping(self.blocks[:first], len(off)):
                logits = self.heads.logits(batch, off, first=first)
            values = [self.metric(each, batch).double().sum().cpu() for each in logits]
            totals += torch.stack(values)
        means: list[float] = (totals / self.n).tolist()
        return means

    def _start(self, batch: PairBatch) -> CachedModules:
        replay = CachedModules(self.blocks)
        with replay.recording():
            self.heads.logits(batch, self.off[None])
        return replay


def _measured(
    heads: HeadAblationRun,
    off: Bool[Tensor, "layer head"],
    pairs: PairSet,
    metrics: list[Metric],
    batch_size: int | None,
    progress: bool,
) -> Float[Tensor, "metric example 2"]:
    """Each example's metrics of the whole model and of the pruned one."""
    heads.model.validate(pairs)
    values = torch.zeros(len(metrics), len(pairs), 2, dtype=torch.float64)
    both = torch.stack([torch.zeros_like(off), off])

    def work(batch: PairBatch) -> Float[Tensor, "metric batch 2"]:
        whole, pruned = heads.logits(batch, both)
        return torch.stack(
            [
                torch.stack([metric(each, batch, whole) for each in (whole, pruned)], dim=-1)
                for metric in metrics
            ]
        )

    for batch, found in over_batches(
        heads.model,
        pairs,
        work,
        batch_size=batch_size,
        progress="evaluating" if progress else None,
    ):
        values[:, batch.index.cpu()] = found.double().cpu()
    return values


def _estimated(values: Float[Tensor, "example 2"], seed: int) -> Evaluation:
    columns = torch.cat([values, values[:, :1] - values[:, 1:]], dim=1)
    means = columns.mean(dim=0)
    low, high = means, means
    if len(values) > 1:
        weights = resample_weights(len(values), 2000, seed=seed)
        low, high = mean_interval(columns, weights)
    rows = torch.stack([means, low, high], dim=1).tolist()
    model, pruned, fall = ((float(a), float(b), float(c)) for a, b, c in rows)
    return Evaluation(len(values), model, pruned, fall)


def _loaded(record: dict[str, Any]) -> Evaluation:
    require_known(record, [field.name for field in fields(Evaluation)])
    return Evaluation(record["n"], *(tuple(record[k]) for k in ("model", "pruned", "fall")))
