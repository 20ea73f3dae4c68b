"""Is the circuit the only one? Another by the same scores that shares nothing with it.

Edges (nodes, neurons) of the circuit are left out, but for edges out of the input, which bring the
data, and the best of the others are selected by the same strategy and ranking: as many, and some
multiples of as many. Where such a circuit is as
faithful, "the circuit of the task" is one of several. Where none is, there may be one that these
scores do not show: they say what edges do while the circuit is there, and backups do little then
(`backups.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.knockout import knocked_out
from circuits.evaluation.measure import faithfulness_from_means, measure
from circuits.graph import AnyCircuit, AnyScores, NodeScores
from circuits.graph.levels import empty_like, order_of
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.options.choices import Ablation
from circuits.options.evaluation import RivalsConfig
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairSet


@dataclass(frozen=True)
class RivalCircuit:
    """A circuit of other edges (nodes, neurons).

    multiple: of the circuit's size. size: how many it has, pruned.
    f: of the behaviour. gap: |1 - f| less the circuit's, paired over the examples; below 0 where
        it is the more faithful of the two.
    shared_nodes: the share of its heads and MLPs that are in the circuit too, by other edges.
    """

    multiple: int
    size: int
    f: Estimate
    gap: Estimate
    shared_nodes: float

    @property
    def as_faithful(self) -> bool:
        """Whether it is not shown to be further from the model than the circuit is."""
        return not self.gap.low > 0


@dataclass(frozen=True)
class Rivals:
    """Circuits that avoid the one found, smallest first.

    circuit: f of the one found. rivals: the others.
    """

    circuit: Estimate
    rivals: tuple[RivalCircuit, ...]

    @property
    def smallest(self) -> RivalCircuit | None:
        """The smallest that is as faithful; None where none is."""
        return next((rival for rival in self.rivals if rival.as_faithful), None)


def avoiding(
    scores: AnyScores, circuit: AnyCircuit, config: RivalsConfig | None = None
) -> dict[int, AnyCircuit]:
    """Select circuits that share no edge (node, neuron) with another, but edges of the input.

    Args:
        scores: that the other was selected from; its strategy and ranking are followed.
        circuit: the other.
        config: their sizes, before pruning; None takes the defaults of `RivalsConfig`. A circuit is
            smaller where fewer edges are left.

    Returns:
        By multiple of the circuit's size, the best of what it leaves, pruned where that is of
        edges.

    Raises:
        CircuitsError: for a circuit of another level or model than the scores.
    """
    nothing = empty_like(scores)
    if (circuit.layout, circuit.level) != (nothing.layout, nothing.level):
        raise CircuitsError(
            f"a circuit of {circuit.level}s of {circuit.layout.summary} is not of these scores, of "
            f"{nothing.level}s of {nothing.layout.summary}"
        )
    order = _order_without(scores, circuit)
    left = order[~knocked_out(circuit).flatten()[order]]
    return {
        multiple: nothing.with_only(left[: multiple * len(circuit)]).pruned()
        for multiple in (config or RivalsConfig()).multiples
    }


def rivals(
    model: HookedModel,
    circuit: AnyCircuit,
    others: Mapping[int, AnyCircuit],
    pairs: PairSet,
    *,
    metric: str | None = None,
    ablation: Ablation | MeanActivations = "corrupted",
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> Rivals:
    """Run circuits that avoid one, beside it.

    Args:
        model: the model of the circuit.
        circuit: the one that they avoid; not empty.
        others: by multiple of its size, as `avoiding` selects them.
        pairs: prompt pairs that no circuit was selected on.
        metric: its name; None takes the pairs' own.
        ablation: what stands in for what is left out, as for `measure`.
        options: batches, seed, progress; the seed is of the bootstrap.
        resume: keeps what was measured until the whole is done.

    Returns:
        f of each, and how much further from the model it is than the circuit, with intervals.

    Raises:
        UndefinedMetricError: where clean and corrupted metric are equal.
        CircuitsError: where a circuit is of another model.
    """
    options = options or RunOptions()
    measured = measure(
        model,
        pairs,
        [circuit, *others.values()],
        metric=metric,
        ablation=ablation,
        options=options,
        progress="other circuits" if options.progress else None,
        resume=resume,
    )
    f_circuit, *figures = estimates(measured.columns, _figures, seed=options.seed)
    n = len(others)
    rival_circuits = (
        RivalCircuit(multiple, len(other), f, gap, _shared_nodes(other, circuit))
        for (multiple, other), f, gap in zip(others.items(), figures[:n], figures[n:], strict=True)
    )
    return Rivals(f_circuit, tuple(rival_circuits))


def _order_without(scores: AnyScores, circuit: AnyCircuit) -> Int[Tensor, " choice"]:
    """All places as the circuit's own selection orders them, once its scores are 0: whole paths
    that need one of its edges come last.
    """
    selection = circuit.provenance.selection
    strategy = (
        None if selection is None or selection.strategy == "threshold" else selection.strategy
    )
    ranking = "absolute" if selection is None else selection.ranking
    ratio = None if selection is None else selection.positive_ratio
    removed = knocked_out(circuit)
    left: AnyScores
    if isinstance(scores, NodeScores):
        left = replace(scores, values=scores.values.masked_fill(removed, 0.0))
    else:
        left = replace(scores, matrix=scores.matrix.masked_fill(removed, 0.0))
    return order_of(left, strategy, ranking, positive_ratio=ratio)


def _shared_nodes(other: AnyCircuit, circuit: AnyCircuit) -> float:
    """The share of the other's heads and MLPs that are in the circuit."""
    apart = {"input", "bias", "logits"}
    theirs, ours = ({*c.nodes} - apart for c in (other, circuit))
    return len(theirs & ours) / len(theirs) if theirs else 0.0


def _figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
    """f of the circuit, f of the others, then |1 - f| of each less the circuit's."""
    f = faithfulness_from_means(means)
    off = (1 - f).abs()
    return torch.cat([f, off[..., 1:] - off[..., :1]], dim=-1)
