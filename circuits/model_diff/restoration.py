"""Does putting the base's activations back in a few neurons undo the fine-tuning?

A neuron is an input of an MLP's output matrix. R(S) is the fine-tuned model's metric on clean
prompts where the neurons of S have, at every position, the activations of the base on the same
prompt. With F the fine-tuned model's metric and B the base's,

    undone(S) = (F - R(S)) / (F - B)        1: as the base does, 0: nothing is undone

Candidates are the neurons that changed most between the models (`circuits.model_diff.neurons`).
Sets of them:

- **alone**: each candidate by itself. **top**: the first k.
- **greedy**: one after the other, whichever undoes most with those that are there.
- **random**: k candidates, drawn. **control**: for each of the first k another neuron of its layer,
  the nearest in mean activation in the base, no candidate, and unchanged where there is such.
- **all**: every neuron of every MLP; what is left then, attention does.

Candidates, greedy sets and controls are chosen on pairs of their own: chosen on those that judge
them, even the best of many useless neurons would seem to undo something.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError, UndefinedMetricError
from circuits.metrics import Metric, metric_for
from circuits.model_diff.both_models import BothModels
from circuits.model_diff.documents import diff_documents
from circuits.model_diff.neurons import NeuronStatistics
from circuits.model_diff.restored import Restoration, RestoredSet, SetKind
from circuits.models import HookedModel
from circuits.models.hooks import Edit, Hooks
from circuits.options.restoration import RestorationConfig
from circuits.options.run import RunOptions
from circuits.planning import choose_batch_size
from circuits.planning.costs import DIFF
from circuits.provenance import describe_pairs
from circuits.runtime.batching import over_batches
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import estimates
from tasks.pairs import PairBatch, PairSet

Places = tuple[tuple[int, int], ...]
"""Neurons by layer and number."""


def restore_neurons(
    model: HookedModel,
    base: HookedModel,
    pairs: PairSet,
    choose_on: PairSet,
    *,
    config: RestorationConfig | None = None,
    metric: str | None = None,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> Restoration:
    """Give neurons of a fine-tuned model the base's activations, singly and together.

    Args:
        model: the fine-tuned model.
        base: its base, of the same shape.
        pairs: whose clean prompts judge every set.
        choose_on: others, at least two, that candidates, greedy sets and controls are chosen on.
        config: how many neurons, and in what sets.
        metric: None takes the pairs' own.
        options: batch size, seed and progress.
        resume: keeps what was measured until all is done.

    Returns:
        How much of the change of the metric each set undoes, with 95 % intervals over the pairs.

    Raises:
        CircuitsError: for models of different shapes, encoder-decoders, MLPs whose neurons cannot
            be seen, and pairs in both sets.
        UndefinedMetricError: where both models have the same metric, so that nothing can be undone.
    """
    config, options = config or RestorationConfig(), options or RunOptions()
    resume = resume or Pieces()
    if set(pairs.fingerprints) & set(choose_on.fingerprints):
        raise CircuitsError("pairs and choose_on share pairs; choose neurons on others than judge")
    judge = metric_for(pairs, metric)
    neuron_statistics = diff_documents(
        model, base, choose_on, options=options, resume=resume
    ).neurons
    if neuron_statistics is None:
        raise CircuitsError(
            f"{model.name}: its MLPs have no neurons that can be seen (mixture of experts)"
        )
    candidates = _most_changed(neuron_statistics, config.candidates)
    trials = _Trials(BothModels(model, base), judge, options, resume)
    greedy = _greedy(trials, choose_on, candidates, config.greedy)
    dice, controls = random.Random(options.seed), _matched(neuron_statistics, candidates)
    kinds: list[tuple[SetKind, Places | None]] = [("alone", (neuron,)) for neuron in candidates]
    kinds += [("top", candidates[:size]) for size in config.sizes]
    kinds += [("greedy", greedy[: size + 1]) for size in range(len(greedy))]
    kinds += [
        ("random", drawn)
        for size in config.sizes
        if size < len(candidates)
        for drawn in _drawn(candidates, size, config.draws, dice)
    ]
    kinds += [("control", controls[:size]) for size in config.sizes]
    kinds.append(("all", None))

    measured = trials.metric_of(pairs, [neuron_set for _, neuron_set in kinds])
    ours, theirs = measured[:, :2].mean(dim=0).tolist()
    if abs(ours - theirs) <= 1e-6 * max(abs(ours), abs(theirs), 1e-6):
        raise UndefinedMetricError(
            f"{model.name} and {base.name}: {judge.name} is {ours:.6g} of both on these pairs, so "
            "there is no change to undo; give pairs, or a metric, on which they differ"
        )
    tuned, original, gained, *undone = estimates(
        measured, _shares, n_resamples=config.n_resamples, seed=options.seed
    )
    return Restoration(
        model=model.name,
        base=base.name,
        metric=judge.name,
        data=describe_pairs(pairs),
        chosen_on=describe_pairs(choose_on),
        candidates=_names(candidates),
        tuned=tuned,
        original=original,
        gained=gained,
        sets=tuple(
            RestoredSet(
                kind=kind,
                size=neuron_statistics.change.numel() if neuron_set is None else len(neuron_set),
                neurons=() if neuron_set is None else _names(neuron_set),
                undone=share,
            )
            for (kind, neuron_set), share in zip(kinds, undone, strict=True)
        ),
    )


def _most_changed(statistics: NeuronStatistics, count: int) -> Places:
    """The neurons of largest |change| in units of their spread, first those that changed."""
    size = statistics.effect.abs()
    order = (
        (size + 2 * size.max() * statistics.changed).flatten().argsort(descending=True, stable=True)
    )
    width = statistics.effect.shape[1]
    return tuple(divmod(int(index), width) for index in order[:count])


def _matched(statistics: NeuronStatistics, candidates: Places) -> Places:
    """For each candidate another neuron of its layer with the nearest mean in the base."""
    taken = torch.zeros_like(statistics.changed)
    for candidate in candidates:
        taken[candidate] = True
    of_layer, width = taken.sum(dim=1), taken.shape[1]
    if int(of_layer.max()) * 2 > width:
        layer = int(of_layer.argmax())
        raise CircuitsError(
            f"layer {layer}: {int(of_layer[layer])} of its {width} neurons are candidates, and too "
            "few are left as controls; give fewer candidates"
        )
    matched = []
    for layer, neuron in candidates:
        apart = (statistics.base[layer] - statistics.base[layer, neuron]).abs()
        unfit = apart.max() + 1
        apart = apart + unfit * statistics.changed[layer]
        apart[taken[layer]] = torch.inf
        nearest = int(apart.argmin())
        taken[layer, nearest] = True
        matched.append((layer, nearest))
    return tuple(matched)


def _drawn(candidates: Places, size: int, draws: int, dice: random.Random) -> list[Places]:
    """Random sets of so many candidates, no two alike."""
    neuron_sets: dict[Places, None] = {}
    while len(neuron_sets) < min(draws, math.comb(len(candidates), size)):
        neuron_sets[tuple(sorted(dice.sample(candidates, size)))] = None
    return list(neuron_sets)


def _greedy(trials: _Trials, pairs: PairSet, candidates: Places, steps: int) -> Places:
    """Candidates one after the other, whichever brings the metric nearest to the base's."""
    greedy_set: Places = ()
    for _ in range(steps):
        left = [neuron for neuron in candidates if neuron not in greedy_set]
        means = trials.metric_of(pairs, [(*greedy_set, neuron) for neuron in left]).mean(dim=0)
        tuned, original = means[:2]
        undone = (tuned - means[2:]) * (tuned - original).sign()
        greedy_set = (*greedy_set, left[int(undone.argmax())])
    return greedy_set


def _shares(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
    """Metric of both models, their difference, then what each set undoes of it."""
    tuned, original = means[..., :1], means[..., 1:2]
    gained = tuned - original
    return torch.cat([tuned, original, gained, (tuned - means[..., 2:]) / gained], dim=-1)


@dataclass(frozen=True)
class _Trials:
    """The two models, and how sets of neurons are tried on them."""

    both: BothModels
    judge: Metric
    options: RunOptions
    resume: Pieces

    def metric_of(
        self, pairs: PairSet, sets: Sequence[Places | None]
    ) -> Float[Tensor, "example column"]:
        """The metric of the fine-tuned model, of the base, and with each set put back."""
        models, options = self.both, self.options
        size = options.batch_size or choose_batch_size(models.model, pairs, DIFF)
        values = torch.zeros(len(pairs), 2 + len(sets), dtype=torch.float64)
        piece = self.resume.tensors()
        identity = {
            "models": [[m.fingerprint, str(m.hf.dtype)] for m in (models.model, models.base)],
            "pairs": pairs.fingerprint,
            "metric": self.judge.name,
            "sets": [neuron_set and list(map(list, neuron_set)) for neuron_set in sets],
            "batch size": size,
        }
        piece.restore(len(pairs), identity, {"values": values})
        for batch, batch_values in over_batches(
            models,
            pairs,
            _Restored(tuple(sets), self.judge),
            batch_size=size,
            done=piece.done,
            progress="neurons put back" if options.progress else None,
            engine=options.engine,
        ):
            values[batch.index.cpu()] = batch_values.double().cpu()
            piece.keep(batch.index)
        return values


@dataclass(frozen=True)
class _Restored:
    """The work on a batch: the fine-tuned model, the base, then each set."""

    sets: tuple[Places | None, ...]
    metric: Metric

    @torch.no_grad()
    def __call__(self, both: BothModels, batch: PairBatch) -> Float[Tensor, "batch column"]:
        model, base = both.model, both.base
        activations: dict[int, Tensor] = {}
        recording = Hooks()
        for layer, parts in enumerate(base.view.layers):
            recording.before(parts.mlp.hidden, _keeping(activations, layer))
        original = base.logits(batch.clean, batch, recording)
        tuned = model.logits(batch.clean, batch)
        runs = [tuned, original.to(tuned.device)]
        for neuron_set in self.sets:
            hooks = Hooks()
            for layer, parts in enumerate(model.view.layers):
                if edit := _putting_back(activations[layer], layer, neuron_set):
                    hooks.before(parts.mlp.hidden, edit)
            runs.append(model.logits(batch.clean, batch, hooks))
        return torch.stack([self.metric(logits, batch, tuned) for logits in runs], dim=1)


def _keeping(activations: dict[int, Tensor], layer: int) -> Edit:
    def keep(x: Tensor) -> None:
        activations[layer] = x

    return keep


def _putting_back(base: Tensor, layer: int, neuron_set: Places | None) -> Edit | None:
    """Puts the base's activations into a layer's neurons; None where it has none of the set."""
    if neuron_set is None:
        return lambda x: base.to(x)
    neurons = [neuron for set_layer, neuron in neuron_set if set_layer == layer]
    if not neurons:
        return None

    def put(x: Tensor) -> Tensor:
        restored = x.clone()
        restored[..., neurons] = base[..., neurons].to(x)
        return restored

    return put


def _names(neurons: Places) -> tuple[str, ...]:
    return tuple(f"m{layer}.n{neuron}" for layer, neuron in neurons)
