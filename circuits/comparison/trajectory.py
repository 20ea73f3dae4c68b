"""Edges and nodes by checkpoint: how strong, and since when in the circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.comparison.changes import Strengths
from circuits.graph import Layout
from circuits.runtime.files import number
from circuits.statistics import jackknife_interval, mean_interval

TOP = 30
_CHUNK = 2**21


@dataclass(frozen=True)
class ScoreTrajectory:
    """One edge's mean score, or one node's strength (sum of |mean score| of its outgoing edges).

    values, low, high: one a checkpoint, with its 95 % interval (symmetric bootstrap-t for an edge,
        jackknife for a node); the metric's units.
    """

    name: str
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        columns = {
            name: [number(x) for x in getattr(self, name)] for name in ("values", "low", "high")
        }
        return {"name": self.name, **columns}


@dataclass(frozen=True)
class Inclusion:
    """When an edge of the last checkpoint's circuit entered.

    first: the first checkpoint whose circuit of equal size holds it.
    settled: the first from which on every circuit holds it.
    inclusion: per checkpoint, the share of resamples of its examples whose circuit holds it.
    """

    edge: str
    first: str
    stable_from: str
    inclusion: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**vars(self), "inclusion": list(self.inclusion)}


@dataclass(frozen=True)
class Trajectory:
    """Courses of the strongest edges and of every node; entries of the final circuit's edges.

    checkpoints: names, in order. size: edges of each circuit (top-n by |score|, unpruned).
    """

    checkpoints: tuple[str, ...]
    edges: tuple[ScoreTrajectory, ...]
    nodes: tuple[ScoreTrajectory, ...]
    size: int
    entries: tuple[Inclusion, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "checkpoints": list(self.checkpoints),
            "edges": [course.to_dict() for course in self.edges],
            "nodes": [course.to_dict() for course in self.nodes],
            "size": self.size,
            "entries": [entry.to_dict() for entry in self.entries],
        }


def trajectory(
    layout: Layout,
    scores: Sequence[Float[Tensor, "n edge"]],
    names: Sequence[str],
    weights: Float[Tensor, "resample n"],
    strengths: Sequence[Strengths],
    *,
    size: int,
    top: int = TOP,
) -> Trajectory:
    """Follow the edges strongest at any checkpoint, every node, and the final circuit's edges.

    scores: per-example scores of each checkpoint over the possible edges, in matrix order.
    strengths: of the nodes, for each checkpoint.
    """
    places = layout.mask.nonzero()
    means = torch.stack([values.double().mean(dim=0) for values in scores])
    strongest = means.abs().amax(dim=0).argsort(descending=True, stable=True)[:top]
    ends = [mean_interval(values[:, strongest], weights) for values in scores]
    edges = [
        ScoreTrajectory(
            layout.edge_name(*places[edge].tolist()),
            tuple(means[:, edge].tolist()),
            tuple(float(low[row]) for low, _ in ends),
            tuple(float(high[row]) for _, high in ends),
        )
        for row, edge in enumerate(strongest.tolist())
    ]
    bounds = [jackknife_interval(one.value, one.left_out) for one in strengths]
    nodes = [
        ScoreTrajectory(
            name,
            tuple(float(one.value[row]) for one in strengths),
            tuple(float(low[row]) for low, _ in bounds),
            tuple(float(high[row]) for _, high in bounds),
        )
        for row, name in enumerate(layout.sources)
    ]
    orders = means.abs().argsort(dim=1, descending=True, stable=True)
    members = torch.zeros_like(means, dtype=torch.bool).scatter_(1, orders[:, :size], True)
    inclusions = [_inclusion(values, weights, size) for values in scores]
    entries = []
    for edge in orders[-1, :size].tolist():
        inside = members[:, edge].tolist()
        since = len(inside) - 1
        while since > 0 and inside[since - 1]:
            since -= 1
        entries.append(
            Inclusion(
                layout.edge_name(*places[edge].tolist()),
                names[inside.index(True)],
                names[since],
                tuple(float(inclusion[edge]) for inclusion in inclusions),
            )
        )
    return Trajectory(tuple(names), tuple(edges), tuple(nodes), size, tuple(entries))


def _inclusion(
    values: Float[Tensor, "n edge"], weights: Float[Tensor, "resample n"], size: int
) -> Float[Tensor, " edge"]:
    """How often each edge makes the circuit of so many edges, among resamples of the examples."""
    edges = values.shape[1]
    included = torch.zeros(edges, dtype=torch.float64)
    for part in weights.to(values.dtype).split(max(1, _CHUNK // edges)):
        chosen = (part @ values).abs().topk(size, dim=1, sorted=False).indices.flatten()
        included += torch.bincount(chosen, minlength=edges)
    return included / len(weights)
