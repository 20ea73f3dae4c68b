"""Faithfulness by circuit size, as the MIB benchmark measures it, with intervals and a control.

f(C) = (m(C) - m(none)) / (m(model) - m(none)); 1 is the model, 0 the corrupted run.
CPR: area under f over the share of edges kept, edges ranked by signed score; higher is better.
CMD: area under |1 - f|, ranked by absolute score; lower is better.
Source: Mueller et al. (2025), "MIB: A Mechanistic Interpretability Benchmark".

The linear axis gives everything below 5 % of the edges 7 % of the weight; `log_area` is the area
under f over log(share), divided by the axis's length, and f at 1, 2 and 5 % is given as it is.
A random ranking scores CPR near 0.25 and CMD near 0.75: half of the area under the last step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.evaluation.intervals import Estimate, Statistic, estimates
from circuits.evaluation.measure import measure, shares
from circuits.graph import Circuit, EdgeScores, ranked_edges, top_mask
from circuits.models import HookedModel
from tasks.pairs import PairSet

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Curve:
    """Faithfulness of one ranking.

    values: f at each fraction. edges: how many edges were kept there.
    area: under f. distance: under |1 - f|. log_area: under f over log share, per unit of it.
    """

    ranking: str
    edges: tuple[int, ...]
    values: tuple[Estimate, ...]
    area: Estimate
    distance: Estimate
    log_area: Estimate

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "edges": list(self.edges),
            "values": [value.to_dict() for value in self.values],
            "area": self.area.to_dict(),
            "distance": self.distance.to_dict(),
            "log_area": self.log_area.to_dict(),
        }


@dataclass(frozen=True)
class Faithfulness:
    """Curves of the signed, the absolute and a random ranking on the same examples."""

    metric: str
    metric_clean: float
    metric_corrupted: float
    fractions: tuple[float, ...]
    curves: dict[str, Curve]
    n: int

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
            "metric": self.metric,
            "metric_clean": self.metric_clean,
            "metric_corrupted": self.metric_corrupted,
            "fractions": list(self.fractions),
            "n": self.n,
            "cpr": self.cpr.to_dict(),
            "cmd": self.cmd.to_dict(),
            "curves": {name: curve.to_dict() for name, curve in self.curves.items()},
        }


def faithfulness(
    model: HookedModel,
    scores: EdgeScores,
    pairs: PairSet,
    *,
    metric: str | None = None,
    fractions: Sequence[float] = FRACTIONS,
    controls: int = 3,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Faithfulness:
    """Faithfulness curves of the scores' rankings and of random ones.

    pairs: examples that the scores were not made from. controls: how many random rankings the
    control is the mean of. Circuits are pruned before they run; pruning changes no logit.
    """
    rankings = {name: [ranked_edges(scores, name)] for name in ("signed", "absolute")}
    draw = torch.Generator().manual_seed(seed)
    places = scores.mask.flatten().nonzero().flatten()
    rankings["random"] = [
        places[torch.randperm(len(places), generator=draw)] for _ in range(controls)
    ]
    sizes = tuple(max(1, round(share * scores.layout.n_edges)) for share in fractions)
    circuits = [
        Circuit(scores.layout, top_mask(ranked, scores.layout, size)).pruned()
        for name in rankings
        for ranked in rankings[name]
        for size in sizes
    ]
    measured = measure(
        model,
        pairs,
        circuits,
        metric=metric,
        batch_size=batch_size,
        progress="faithfulness" if progress else None,
    )
    axis = torch.tensor(fractions, dtype=torch.float64)
    curves, first = {}, 0
    for name, lines in rankings.items():
        count = len(lines) * len(sizes)
        chosen = torch.cat(
            [measured.columns[:, :2], measured.circuits[:, first : first + count]], dim=1
        )
        figures = estimates(chosen, _statistic(len(lines), axis), seed=seed)
        curves[name] = Curve(name, sizes, tuple(figures[:-3]), *figures[-3:])
        first += count
    return Faithfulness(
        measured.metric,
        float(measured.clean.mean()),
        float(measured.corrupted.mean()),
        tuple(fractions),
        curves,
        len(pairs),
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
