"""Faithfulness by circuit size, as the MIB benchmark measures it, with intervals and a control.

f(C) = (m(C) - m(none)) / (m(model) - m(none)); 1 is the model, 0 the corrupted run.
CPR: area under f over the share of edges kept, edges ranked by signed score; higher is better.
CMD: area under |1 - f|, ranked by absolute score; lower is better.
Scores of nodes or of neurons give the same curves over the share of nodes or neurons kept.
Source: Mueller et al. (2025), "MIB: A Mechanistic Interpretability Benchmark". As in its code, a
share k of N edges is the first int(k N) of a ranking, pruned; the area's axis is k; beside each
point stands the number of edges that pruning leaves (`weighted_edge_count` there, and in EAP-IG,
where an edge weighs as much as the share of its source's neurons that is kept: 1 in circuits of
whole edges).

The linear axis gives everything below 5 % of the edges 7 % of the weight; `log_area` is the area
under f over log(share), divided by the axis's length, and `at` gives f at 1, 2 and 5 %.
A random ranking scores CPR near 0.25 and CMD near 0.75: half of the area under the last step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.measure import measure, nothing_left, shares
from circuits.graph import AnyScores
from circuits.graph.levels import DEFAULT_STRATEGIES, empty_like, order_of
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, Statistic, estimates
from tasks.pairs import PairSet

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
EARLY = (0.01, 0.02, 0.05)

Order = Int[Tensor, " choice"]


@dataclass(frozen=True)
class Curve:
    """Faithfulness of one ranking.

    level: what is ranked, "edge", "node" or "neuron". values: f at each fraction. sizes: how many
    were selected there. kept: how many of them pruning left; a mean where the curve is the mean of
    several rankings.
    area: under f. distance: under |1 - f|. log_area: under f over log share, per unit of it.
    notes: for each point, why its circuit can do nothing; None where it can.
    """

    level: str
    ranking: str
    fractions: tuple[float, ...]
    sizes: tuple[int, ...]
    kept: tuple[float, ...]
    values: tuple[Estimate, ...]
    area: Estimate
    distance: Estimate
    log_area: Estimate
    notes: tuple[str | None, ...]

    def at(self, fraction: float) -> Estimate:
        """f at one of the fractions."""
        if fraction not in self.fractions:
            raise CircuitsError(
                f"f was not measured at {fraction}; only at {', '.join(map(str, self.fractions))}"
            )
        return self.values[self.fractions.index(fraction)]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            f"{self.level}s": list(self.sizes),
            "kept": list(self.kept),
            "values": [value.to_dict() for value in self.values],
            "at": {str(k): self.at(k).to_dict() for k in EARLY if k in self.fractions},
            "area": self.area.to_dict(),
            "distance": self.distance.to_dict(),
            "log_area": self.log_area.to_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Faithfulness:
    """Curves of the signed, the absolute and a random ranking on the same examples.

    level: what is ranked, "edge", "node" or "neuron".
    """

    level: str
    metric: str
    metric_clean: float
    metric_corrupted: float
    fractions: tuple[float, ...]
    curves: dict[str, Curve]
    n: int
    strategy: str

    @property
    def cpr(self) -> Estimate:
        """Area under f, signed ranking: higher is better."""
        return self.curves["signed"].area

    @property
    def cmd(self) -> Estimate:
        """Area under |1 - f|, absolute ranking: lower is better."""
        return self.curves["absolute"].distance

    @property
    def values(self) -> tuple[Estimate, ...]:
        """f at each fraction, absolute ranking."""
        return self.curves["absolute"].values

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "level": self.level,
            "metric": self.metric,
            "metric_clean": self.metric_clean,
            "metric_corrupted": self.metric_corrupted,
            "fractions": list(self.fractions),
            "n": self.n,
            "strategy": self.strategy,
            "cpr": self.cpr.to_dict(),
            "cmd": self.cmd.to_dict(),
            "curves": {name: curve.to_dict() for name, curve in self.curves.items()},
        }


def faithfulness(
    model: HookedModel,
    scores: AnyScores,
    pairs: PairSet,
    *,
    metric: str | None = None,
    ablation: str | MeanActivations = "corrupted",
    strategy: str | None = None,
    fractions: Sequence[float] = FRACTIONS,
    others: Mapping[str, Order] | None = None,
    controls: int = 3,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
    resume: Pieces | None = None,
) -> Faithfulness:
    """Faithfulness curves of the scores' rankings and of random ones.

    scores: of edges, nodes or neurons. pairs: examples that they were not made from. rule: how a
    ranking becomes an order, from `circuits.graph.orders`; "top-n" is the benchmark's own, and the
    only one of nodes and neurons; None takes "widest-path" for edges. others: more curves by name,
    each of them
    an order of all `choices` of a circuit (edges as flat matrix places). controls: how many random
    rankings the control is the mean of. ablation: as for `measure`. Circuits are pruned before
    they run, which changes no logit where the corrupted run is what replaces.

    Raises UndefinedMetricError where clean and corrupted metric are equal.
    """
    nothing = empty_like(scores)
    if not all(0 < share <= 1 for share in fractions) or list(fractions) != sorted({*fractions}):
        raise CircuitsError(f"fractions {list(fractions)}: rising shares above 0, at most 1")
    orders = {name: [order_of(scores, strategy, name)] for name in ("signed", "absolute")}
    orders |= {name: [order] for name, order in (others or {}).items()}
    draw = torch.Generator().manual_seed(seed)
    places = nothing.candidates
    orders["random"] = [
        places[torch.randperm(len(places), generator=draw)] for _ in range(controls)
    ]
    sizes = tuple(int(share * len(places)) for share in fractions)
    selected = {
        name: [[nothing.with_only(order[:size]) for size in sizes] for order in lines]
        for name, lines in orders.items()
        if lines
    }
    pruned = {
        name: [circuit.pruned() for line in lines for circuit in line]
        for name, lines in selected.items()
    }
    measured = measure(
        model,
        pairs,
        [circuit for line in pruned.values() for circuit in line],
        metric=metric,
        ablation=ablation,
        batch_size=batch_size,
        progress="faithfulness" if progress else None,
        resume=resume,
    )
    axis = torch.tensor(fractions, dtype=torch.float64)
    curves, first = {}, 0
    for name, line in pruned.items():
        lines = len(selected[name])
        columns = measured.of(range(first, first + len(line)))
        *values, area, distance, log_area = estimates(columns, _statistic(lines, axis), seed=seed)
        kept = torch.tensor([float(len(circuit)) for circuit in line]).view(lines, -1)
        notes = tuple(map(nothing_left, selected[name][0])) if lines == 1 else (None,) * len(sizes)
        curves[name] = Curve(
            nothing.level,
            name,
            tuple(fractions),
            sizes,
            tuple(kept.mean(dim=0).tolist()),
            tuple(values),
            area,
            distance,
            log_area,
            notes,
        )
        first += len(line)
    return Faithfulness(
        nothing.level,
        measured.metric,
        float(measured.clean.mean()),
        float(measured.corrupted.mean()),
        tuple(fractions),
        curves,
        len(pairs),
        strategy or DEFAULT_STRATEGIES[nothing.level],
    )


def _statistic(lines: int, axis: Float[Tensor, " point"]) -> Statistic:
    """From metric means to f at each fraction, then the three areas; several lines are averaged."""

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        f = shares(means).unflatten(-1, (lines, len(axis)))
        log = axis.log()
        areas = [
            torch.trapezoid(f, axis),
            torch.trapezoid((1 - f).abs(), axis),
            torch.trapezoid(f, log) / (log[-1] - log[0]) if len(axis) > 1 else f[..., 0],
        ]
        return torch.cat([f.mean(dim=-2), torch.stack(areas, dim=-1).mean(dim=-2)], dim=-1)

    return figures
