"""Does the pipeline find a circuit where there is nothing to find?

The same pairs are scored by the same method in a model that learned nothing
(`models/scrambled.py`), a circuit of the same size is selected by the same strategy and ranking,
and both circuits are judged on the same unseen pairs. A model that learned nothing has no
behaviour, and its metric on clean and corrupted prompts differs by a little that has no sign; so f
is taken of the KL divergence from each model's own distribution, which is there in any network:

    f = 1 - KL(model || circuit) / KL(model || none)

A circuit of which so much is kept in such a network as well is a finding about the method. Control:
a random circuit of as many edges (nodes, neurons) in each model.
Source: Adebayo et al. (2018), "Sanity Checks for Saliency Maps"; Meloux et al. (2025), "The Dead
Salmons of AI Interpretability".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.attribution import METHODS, attribute, attribute_nodes, method
from circuits.attribution.nodes import NodeLevel
from circuits.errors import CircuitsError
from circuits.evaluation.answers import share_right
from circuits.evaluation.measure import Judged, faithfulness_from_means, measure
from circuits.graph import AnyCircuit, AnyScores, NodeScores
from circuits.graph.controls import random_circuit
from circuits.graph.levels import select_size
from circuits.models import HookedModel
from circuits.models.scrambled import scrambled
from circuits.options.choices import NullWeights
from circuits.options.evaluation import EvalConfig, NullModelConfig
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, Statistic, estimates
from tasks.pairs import PairSet

_JUDGE = "kl-divergence"


@dataclass(frozen=True)
class NullDraw:
    """One model that learned nothing.

    size: of the circuit found in it, pruned. circuit, control: f of it and of a random circuit.
    accuracy: how often the model is right, clean.
    """

    size: int
    circuit: Estimate
    control: Estimate
    accuracy: Estimate


@dataclass(frozen=True)
class NullModel:
    """A circuit beside those that the same pipeline finds in models that learned nothing.

    weights: how these were made. circuit, control: f, by KL divergence, of the circuit and of a
        random one in the model itself. accuracy: how often that is right, clean.
    draws: the models that learned nothing.
    difference: f of the circuit less the mean of theirs, paired over the examples.
    """

    weights: NullWeights
    circuit: Estimate
    control: Estimate
    accuracy: Estimate
    draws: tuple[NullDraw, ...]
    difference: Estimate

    @property
    def beaten(self) -> bool:
        """Whether the circuit keeps more than those in models that learned nothing."""
        return self.difference.low > 0


def null_model(
    model: HookedModel,
    scores: AnyScores,
    circuit: AnyCircuit,
    scored_on: PairSet,
    pairs: PairSet,
    *,
    config: EvalConfig | None = None,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> NullModel:
    """Score, select and judge in models that learned nothing, as it was done in this one.

    Costs the scoring and a few runs for each draw, and memory for a second model. A ranking that
    was chosen on pairs of its own is taken over.

    Args:
        model: the model of the circuit.
        scores: that the circuit was selected from.
        circuit: as `select` or `select_nodes` made it.
        scored_on: the pairs that the scores were made from.
        pairs: others, to judge on.
        config: its `null_model` says which models, its `ablation` what stands in for what is left
            out; None takes the defaults.
        options: batches, seed, progress; the seed is of the weights, of random circuits and of the
            bootstrap.
        resume: keeps what was measured until the whole is done.

    Returns:
        f of both, and the difference, with 95 % intervals over the pairs.

    Raises:
        CircuitsError: where the scores were not made from these pairs or are of no method that
            could score again, the circuit was not selected from them by size, or the model's
            weights are quantised or on several devices.
    """
    config, options = config or EvalConfig(), options or RunOptions()
    null_config = config.null_model or NullModelConfig()
    _require_same(scores, circuit, scored_on)
    null_runs = []
    for draw in range(null_config.draws):
        null = scrambled(model, null_config.weights, seed=options.seed + draw)
        null_circuit = _circuit_in(null, scores, circuit, scored_on, options, resume)
        null_runs.append(
            (len(null_circuit), _judged(null, null_circuit, pairs, config, options, resume))
        )
    model_run = _judged(model, circuit, pairs, config, options, resume)
    sides = [model_run, *(judged for _, judged in null_runs)]
    columns = torch.cat([side.columns for side in sides], dim=1)
    difference, *figures = estimates(columns, _figures(len(sides)), seed=options.seed)
    right = [share_right(side.right[:, 0], options.seed) for side in sides]
    draws = [
        NullDraw(size, figures[2 * index], figures[2 * index + 1], right[index])
        for index, (size, _) in enumerate(null_runs, start=1)
    ]
    return NullModel(
        null_config.weights, figures[0], figures[1], right[0], tuple(draws), difference
    )


def _require_same(scores: AnyScores, circuit: AnyCircuit, scored_on: PairSet) -> None:
    selection = circuit.provenance.selection
    if scores.method not in METHODS or selection is None or selection.size is None:
        raise CircuitsError(
            "a model that learned nothing is scored and selected from as the model was, and this "
            f"circuit ({scores.method}) was not made by a method of `circuits discover` and a size"
        )
    if scores.provenance.data is not None and not scores.provenance.is_of(scored_on):
        raise CircuitsError(
            "a model that learned nothing is scored on the pairs that the model was scored on, and "
            "these are others"
        )


def _circuit_in(
    null: HookedModel,
    scores: AnyScores,
    circuit: AnyCircuit,
    scored_on: PairSet,
    options: RunOptions,
    resume: Pieces | None,
) -> AnyCircuit:
    """What the same pipeline finds there."""
    provenance, selection = scores.provenance, circuit.provenance.selection
    assert selection is not None and selection.size is not None
    assert selection.strategy != "threshold"  # it has no size
    scoring_method = method(scores.method, **provenance.settings)
    piece = None if resume is None else resume.tensors()
    per_example = selection.strategy == "stable"
    if isinstance(scores, NodeScores):
        level: NodeLevel = "node" if scores.units.level == "node" else "neuron"
        null_scores: AnyScores = attribute_nodes(
            *(null, scored_on, scoring_method),
            level=level,
            metric=provenance.metric,
            options=options,
            per_example=per_example,
            resume=piece,
        )
    else:
        null_scores = attribute(
            *(null, scored_on, scoring_method),
            metric=provenance.metric,
            options=options,
            per_example=per_example,
            resume=piece,
        )
    return select_size(
        null_scores,
        selection.size,
        strategy=selection.strategy,
        ranking=selection.ranking,
        positive_ratio=selection.positive_ratio,
        prune=selection.pruned,
    )


def _judged(
    model: HookedModel,
    circuit: AnyCircuit,
    pairs: PairSet,
    config: EvalConfig,
    options: RunOptions,
    resume: Pieces | None,
) -> Judged:
    """Of the circuit, and of a random one of its size."""
    return measure(
        model,
        pairs,
        [circuit, random_circuit(circuit, seed=options.seed)],
        metric=_JUDGE,
        ablation=config.ablation,
        options=options,
        progress="null model" if options.progress else None,
        resume=resume,
    )


def _figures(sides: int) -> Statistic:
    """The circuit's f less the mean of the others', then f of each side's circuit and control."""

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        by_side = rearrange(means, "... (side column) -> ... side column", side=sides)
        f = faithfulness_from_means(by_side)
        apart = f[..., 0, 0] - f[..., 1:, 0].mean(dim=-1)
        return torch.cat([apart[..., None], f.flatten(-2)], dim=-1)

    return figures
