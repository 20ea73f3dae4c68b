"""Scores of nodes and neurons along the path from corrupted to clean.

    score(u) = sum over positions (a_u - a'_u) . dM/da_u

with a_u and a'_u the output of source u on the clean and the corrupted prompt, and dM/da_u the
gradient by all paths from it, averaged over the points that the method takes. At level "node" the
outputs are those of heads and MLPs; the score is then the sum of the scores of the node's edges. At
level "neuron" they are taken apart: the dimensions of each head's z, and the hidden activations
that an MLP's last matrix reads. The units of a node add up to it, but for MLPs with a norm behind
them (Gemma 2 and 3, OLMo 2), where the norm's own derivative comes in between.

Source: attribution patching (Nanda 2023; Syed, Rager & Conmy 2023) of nodes, integrated as EAP-IG
(inputs) of Hanna, Pezzelle & Belinkov (2024) is. Cost: the passes of the method; the sources meet
no readers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.batch_scores import BatchScores, PathSamples
from circuits.attribution.dataset_scores import (
    DatasetScores,
    GrowingPairs,
    Scoring,
    score_dataset,
)
from circuits.attribution.method import Method, PathMethod
from circuits.attribution.passes import Passes, points_of
from circuits.attribution.quadrature import Rule
from circuits.attribution.registry import node_methods, resolve
from circuits.errors import CircuitsError
from circuits.graph import NodeScores, Units
from circuits.metrics import Metric
from circuits.models import HookedModel, SourceActivations
from circuits.models.backward.rules import PLAIN, BackwardRules
from circuits.models.hooks import Hooks
from circuits.models.view import Attention
from circuits.options.run import RunOptions
from circuits.runtime.resume import PartialResults
from tasks.pairs import PairBatch, PairSet

NodeLevel = Literal["node", "neuron"]
LEVELS: tuple[NodeLevel, ...] = get_args(NodeLevel)


def attribute_nodes(
    model: HookedModel,
    pairs: PairSet | GrowingPairs,
    method: str | Method = "eap-ig",
    *,
    level: NodeLevel = "node",
    metric: str | None = None,
    options: RunOptions | None = None,
    per_example: bool | None = None,
    resume: PartialResults | None = None,
    **settings: object,
) -> NodeScores:
    """Score every node: how much the metric falls, to first order, when all of it is corrupted.

    Args:
        model: the model whose nodes are scored.
        pairs: as for `attribute`.
        method: one that takes gradients on the path (eap-ig, eap, clean-corrupted, relp, gim), with
            its hyper-parameters as keywords, or a method object.
        level: "node", or "neuron" for the dimensions of heads and the hidden neurons of MLPs.
        metric: as for `attribute`.
        options: as for `attribute`.
        per_example: as for `attribute`.
        resume: as for `attribute`.
        **settings: hyper-parameters of the method.

    Returns:
        One score per node, or per unit of each.

    Raises:
        CircuitsError: as `attribute`, and for a method that scores edges only.
    """
    scoring_method = resolve(method, settings)
    if level not in LEVELS:
        raise CircuitsError(f"unknown level {level!r}; known: edge, {', '.join(LEVELS)}")
    if not isinstance(scoring_method, PathMethod):
        raise CircuitsError(
            f"{scoring_method.name} scores edges only; for nodes and neurons take one of "
            f"{', '.join(node_methods())}"
        )
    scoring = Scoring.of(model, pairs, scoring_method, metric, options, per_example, resume)
    units = units_of(model, level)

    def to_scores(dataset_scores: DatasetScores) -> NodeScores:
        return NodeScores(
            dataset_scores.mean,
            model.layout,
            units.widths,
            scoring_method.name,
            dataset_scores.provenance,
            dataset_scores.per_example,
            dataset_scores.blocks,
        )

    work = _Scores(scoring_method, scoring.metric, level, scoring.recompute)
    return to_scores(score_dataset(scoring, f"{level}s", work, (len(units),), to_scores))


def units_of(model: HookedModel, level: NodeLevel) -> Units:
    """What is scored of a model at a level: nodes as wholes, or their units."""
    if level == "neuron":
        return Units(model.layout, model.view.widths)
    return Units.of_nodes(model.layout)


@dataclass(frozen=True)
class _Scores:
    """The work on a batch."""

    method: PathMethod
    metric: Metric
    level: NodeLevel
    recompute: bool

    def __call__(self, model: HookedModel, batch: PairBatch) -> BatchScores:
        def score_at(part: PairBatch, rule: Rule) -> PathSamples:
            return node_samples(
                model,
                part,
                self.metric,
                rule,
                self.level,
                recompute=self.recompute,
                rules=self.method.rules,
            )

        return self.method.integrate(score_at, batch)


def node_samples(
    model: HookedModel,
    batch: PairBatch,
    metric: Metric,
    rule: Rule,
    level: str,
    *,
    recompute: bool = False,
    rules: BackwardRules = PLAIN,
) -> PathSamples:
    """Scores of all units for every example of a batch; (batch, unit), sources in row order.

    recompute, rules: as for `engine.edge_samples`.
    """
    neurons = level == "neuron"
    clean, corrupted = (SourceActivations(model.view) for _ in range(2))
    records = (partial(_record, clean, neurons), partial(_record, corrupted, neurons))
    passes = Passes(model, batch, metric, records, recompute=recompute, rules=rules)
    units = _Units(clean, corrupted, neurons=neurons)
    values: list[Tensor] = []
    seen = passes.run_points(points_of(rule), units.record, lambda: values.append(units.taken()))
    weighted_sum = None
    if not rule.calibrated:
        weighted_sum = torch.zeros_like(values[0])
        for value, weight in zip(values, rule.weights, strict=True):
            weighted_sum += weight * value
    ones = torch.ones(values[0].shape[1], device=values[0].device)
    return PathSamples(
        rule,
        passes.clean,
        passes.corrupted,
        *seen,
        torch.stack(values),
        ones.nonzero()[:, 0],
        ones,
        weighted_sum,
    )


def _record(states: SourceActivations, neurons: bool, hooks: Hooks) -> None:
    states.record(hooks)
    if neurons:
        states.record_neurons(hooks)


class _Units:
    """Scores by the first row of what they belong to, filled in by backward passes."""

    def __init__(
        self, clean: SourceActivations, corrupted: SourceActivations, *, neurons: bool
    ) -> None:
        self.view, self.neurons = clean.view, neurons
        pairs = zip(clean.inputs.values(), corrupted.inputs.values(), strict=True)
        self.inputs = [clean_input - corrupted_input for clean_input, corrupted_input in pairs]
        self.z = [z - corrupted.z[index] for index, z in sorted(clean.z.items())]
        of_mlps = [run.hidden if neurons else run.mlp for run in (clean, corrupted)]
        self.mlp = [x - of_mlps[1][index] for index, x in sorted(of_mlps[0].items())]
        zeros = self.inputs[0].new_zeros(len(self.inputs[0]), 1, dtype=torch.float32)
        self.roots = dict.fromkeys(self.view.layout.roots, zeros)
        self.unit_scores = dict(self.roots)

    def record(self, hooks: Hooks, _: float) -> None:
        """Watch the backward pass of one point of the path."""
        for stream, change in zip(self.view.streams, self.inputs, strict=True):
            add = partial(self._add, stream.rows.start, change, whole=True)
            hooks.before(stream.entry, partial(_watch, add), in_graph=True)
        for attention, z in zip(self.view.attentions, self.z, strict=True):
            written = attention.output if attention.post is None else attention.post.module
            add = partial(self._add_heads, attention, z)
            hooks.after(written, partial(_watch, add), in_graph=True)
        for mlp, change in zip(self.view.mlps, self.mlp, strict=True):
            add = partial(self._add, mlp.place.row, change, whole=not self.neurons)
            if self.neurons:
                hooks.before(mlp.hidden, partial(_watch, add), in_graph=True)
            else:
                hooks.after(mlp.output, partial(_watch, add), in_graph=True)

    def taken(self) -> Float[Tensor, "batch unit"]:
        """All units by that pass, in row order."""
        units = torch.cat([self.unit_scores[row] for row in sorted(self.unit_scores)], dim=1)
        self.unit_scores = dict(self.roots)
        return units

    def _add(self, row: int, change: Tensor, gradient: Tensor, *, whole: bool) -> None:
        product = gradient.float().view(change.shape) * change
        units = product.view(len(self.inputs[0]), -1, change.shape[-1]).sum(dim=1)
        self._keep(row, units.sum(dim=1, keepdim=True) if whole else units)

    def _add_heads(
        self,
        attention: Attention,
        change: Float[Tensor, "batch pos head d_head"],
        gradient: Float[Tensor, "batch pos d_model"],
    ) -> None:
        """A head's part of the gradient at the stream, by its part of the output matrix."""
        matrix = attention.output_weight.float()
        units = torch.einsum("bpd,hkd->bphk", gradient.float(), matrix).mul_(change).sum(dim=1)
        units = units if self.neurons else units.sum(dim=-1, keepdim=True)
        self._keep(attention.place.rows.start, units.flatten(1))

    def _keep(self, row: int, units: Float[Tensor, "batch unit"]) -> None:
        self.unit_scores[row] = self.unit_scores[row] + units if row in self.unit_scores else units


def _watch(add: Callable[[Tensor], None], x: Tensor) -> None:
    x.register_hook(add)
