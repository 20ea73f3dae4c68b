"""Edges and nodes by checkpoint: how strong, and since when in the circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.comparison.changes import Strengths
from circuits.graph.edge_values import EdgeValues
from circuits.statistics import mean_interval
from circuits.statistics.estimate import Estimates

TOP = 30
_CHUNK = 2**21  # numbers held at once
_MEANS = 2**27  # mean scores of a walk: 512 MiB; fewer would mean more reading


@dataclass(frozen=True)
class ScoreTrajectory:
    """One edge's mean score, or one node's strength (sum of |mean score| of its outgoing edges).

    Attributes:
        name: of the edge or node.
        scores: one for each checkpoint, in the metric's units, with its 95 % interval (symmetric
            bootstrap-t for an edge, jackknife for a node).
    """

    name: str
    scores: Estimates


@dataclass(frozen=True)
class Inclusion:
    """When an edge of the last checkpoint's circuit was included in the circuit.

    Attributes:
        edge: its name.
        first: the first checkpoint whose circuit of equal size holds it.
        stable_from: the first checkpoint from which on every circuit holds it.
        frequency: for each checkpoint, the share of resamples of its examples whose circuit holds
            the edge.
    """

    edge: str
    first: str
    stable_from: str
    frequency: tuple[float, ...]


@dataclass(frozen=True)
class Trajectory:
    """Scores of the strongest edges and of every node over the checkpoints.

    Attributes:
        checkpoints: their names, in order.
        edges: the edges that are strongest at any checkpoint.
        nodes: every node.
        size: edges in each checkpoint's circuit (the highest by |score|, unpruned).
        inclusions: of the edges of the last checkpoint's circuit, strongest first.
    """

    checkpoints: tuple[str, ...]
    edges: tuple[ScoreTrajectory, ...]
    nodes: tuple[ScoreTrajectory, ...]
    size: int
    inclusions: tuple[Inclusion, ...]


def trajectory(
    scores: Sequence[EdgeValues],
    names: Sequence[str],
    weights: Float[Tensor, "resample n"],
    strengths: Sequence[Strengths],
    *,
    size: int,
    top: int = TOP,
) -> Trajectory:
    """Follow the edges strongest at any checkpoint, every node, and the final circuit's edges.

    scores: per-example scores of each checkpoint.
    strengths: of the nodes, for each checkpoint.
    """
    layout = scores[0].layout
    matrix_indices = layout.mask.nonzero()
    means = torch.stack([values.summary.mean for values in scores])
    strongest = means.abs().amax(dim=0).argsort(descending=True, stable=True)[:top]
    bounds = [mean_interval(values.columns(strongest), weights) for values in scores]
    low, high = (torch.stack(side) for side in zip(*bounds, strict=True))
    count = len(weights.T)
    edges = [
        ScoreTrajectory(
            layout.edge_name(*matrix_indices[edge].tolist()),
            Estimates(means[:, edge], low[:, row], high[:, row], count),
        )
        for row, edge in enumerate(strongest.tolist())
    ]
    of_nodes = [s.estimates for s in strengths]
    value, low, high = (
        torch.stack([getattr(estimates, name) for estimates in of_nodes])
        for name in ("value", "low", "high")
    )
    nodes = [
        ScoreTrajectory(name, Estimates(value[:, row], low[:, row], high[:, row], count))
        for row, name in enumerate(layout.sources)
    ]
    orders = means.abs().argsort(dim=1, descending=True, stable=True)
    members = torch.zeros_like(means, dtype=torch.bool).scatter_(1, orders[:, :size], True)
    frequencies = [_inclusion_frequency(values, weights, size) for values in scores]
    inclusions = []
    for edge in orders[-1, :size].tolist():
        inside = members[:, edge].tolist()
        since = len(inside) - 1
        while since > 0 and inside[since - 1]:
            since -= 1
        inclusions.append(
            Inclusion(
                layout.edge_name(*matrix_indices[edge].tolist()),
                names[inside.index(True)],
                names[since],
                tuple(float(frequency[edge]) for frequency in frequencies),
            )
        )
    return Trajectory(tuple(names), tuple(edges), tuple(nodes), size, tuple(inclusions))


def _inclusion_frequency(
    values: EdgeValues, weights: Float[Tensor, "resample n"], size: int
) -> Float[Tensor, " edge"]:
    """How often each edge makes the circuit of so many edges, among resamples of the examples."""
    edges = len(values.flat_indices)
    included = np.zeros(edges, dtype=np.int32)
    walk = max(1, (_CHUNK if values.in_one_block else _MEANS) // edges)
    for walked in weights.split(walk):
        (means,) = values.resampled(walked)
        for strengths in means.abs_().numpy():
            included += strongest(strengths, size)
    return torch.from_numpy(included / len(weights))


def strongest(strengths: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.bool_]:
    """Whether each is among the largest so many; of equal ones the first are.

    NumPy finds the least of them in a fifth of the time in which torch finds them all.
    """
    least = np.partition(strengths, len(strengths) - size)[-size]
    among: npt.NDArray[np.bool_] = strengths >= least
    equal = np.flatnonzero(strengths == least)
    among[equal[size - np.count_nonzero(among) + len(equal) :]] = False
    return among
