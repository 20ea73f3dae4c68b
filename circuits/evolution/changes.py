"""What changed by how much: one row an edge or a node, with interval and false discovery rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.graph import Layout
from circuits.statistics import (
    bca_interval,
    benjamini_hochberg,
    mean_interval,
    student_tail,
    t_test,
)

FALSE_DISCOVERY_RATE = 0.05
RESOLUTION = 1e-6
"""Differences below this share of the largest score are rounding, and count as none."""


@dataclass(frozen=True)
class Changes:
    """Paired changes of many quantities between two checkpoints.

    change: after - before, in the metric's units; low, high: its 95 % bootstrap interval.
    q: Benjamini-Hochberg over all rows of this table.
    """

    names: tuple[str, ...]
    before: Float[Tensor, " k"]
    after: Float[Tensor, " k"]
    change: Float[Tensor, " k"]
    low: Float[Tensor, " k"]
    high: Float[Tensor, " k"]
    p: Float[Tensor, " k"]
    q: Float[Tensor, " k"]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the rows that changed at a false discovery rate of 5 %, largest change first."""
        return tuple(self.names[row] for row in self.order() if self.q[row] <= FALSE_DISCOVERY_RATE)

    def order(self) -> list[int]:
        """Rows: those that changed first, then by size of the change."""
        sure = (self.q <= FALSE_DISCOVERY_RATE).double()
        size = self.change.abs() / self.change.abs().max().clamp_min(1e-300)
        return torch.argsort(2 * sure + size, descending=True, stable=True).tolist()

    def row(self, index: int) -> dict[str, Any]:
        """One row as JSON."""
        columns = ("before", "after", "change", "low", "high", "p", "q")
        return {
            "name": self.names[index],
            **{name: number(getattr(self, name)[index]) for name in columns},
        }

    def to_dict(self, top: int = 50) -> dict[str, Any]:
        """Counts, and the `top` rows in `order`."""
        sure = self.q <= FALSE_DISCOVERY_RATE
        return {
            "tested": len(self),
            "changed": int(sure.sum()),
            "rose": int((sure & (self.change > 0)).sum()),
            "fell": int((sure & (self.change < 0)).sum()),
            "rows": [self.row(index) for index in self.order()[:top]],
        }


def mean_changes(
    names: tuple[str, ...],
    before: Float[Tensor, "n k"],
    after: Float[Tensor, "n k"],
    weights: Float[Tensor, "resample n"],
) -> Changes:
    """Changes of means: bootstrap-t interval, paired t test."""
    difference = after.double() - before.double()
    scale = torch.maximum(before.abs().amax(), after.abs().amax())
    # Two runs of one checkpoint may differ in the last bit; that is no change.
    difference = torch.where(difference.abs().amax(0) <= RESOLUTION * scale, 0.0, difference)
    low, high = mean_interval(difference, weights)
    p = t_test(difference)
    start = before.double().mean(dim=0)
    change = difference.mean(dim=0)
    return Changes(names, start, start + change, change, low, high, p, benjamini_hochberg(p))


def edge_changes(
    layout: Layout,
    before: Float[Tensor, "n edge"],
    after: Float[Tensor, "n edge"],
    weights: Float[Tensor, "resample n"],
) -> Changes:
    """Change of every possible edge's mean score."""
    names = tuple(layout.edge_name(row, column) for row, column in layout.mask.nonzero().tolist())
    return mean_changes(names, before, after, weights)


def total_changes(
    layout: Layout,
    before: Float[Tensor, "n edge"],
    after: Float[Tensor, "n edge"],
    weights: Float[Tensor, "resample n"],
) -> Changes:
    """Change of every node's total: the signed sum of its outgoing edges' scores.

    To first order that is how much the metric falls when the whole node is corrupted. It is linear
    in the examples, so its mean carries no bias.
    """
    rows = layout.mask.nonzero()[:, 0]
    return mean_changes(
        layout.sources, _by_source(before, rows, layout), _by_source(after, rows, layout), weights
    )


def strength_changes(
    layout: Layout,
    before: Float[Tensor, "n edge"],
    after: Float[Tensor, "n edge"],
    weights: Float[Tensor, "resample n"],
) -> Changes:
    """Change of every node's strength: the sum of |mean score| over its outgoing edges.

    Recomputed on each resample's mean. Noise lifts |mean|, hence a bias-corrected interval (BCa,
    with the jackknife's acceleration); p from the change over its bootstrap standard error. Where
    one checkpoint's scores are twice as noisy as the other's, weak nodes pass as changed too often:
    believe their totals, which have no such bias.
    """
    rows = layout.mask.nonzero()[:, 0]
    count = before.shape[0]
    observed = torch.full((1, count), 1 / count, dtype=torch.float64)
    left_out = (1 - torch.eye(count, dtype=torch.float64)) / (count - 1)

    def strengths(values: Tensor, by: Tensor) -> Float[Tensor, "resample source"]:
        chunks = by.to(values.dtype).split(max(1, 2**21 // values.shape[1]))
        return torch.cat([_by_source((w @ values).abs(), rows, layout) for w in chunks])

    # Taking the difference first keeps equal checkpoints exactly equal.
    start, end = (strengths(side, observed)[0] for side in (before, after))
    replicates = strengths(after, weights) - strengths(before, weights)
    jackknife = strengths(after, left_out) - strengths(before, left_out)
    change = end - start
    change = torch.where(change.abs() <= RESOLUTION * torch.maximum(start, end).amax(), 0.0, change)
    low, high = bca_interval(change, replicates, jackknife.mean(dim=0) - jackknife)
    error = replicates.std(dim=0)
    p = student_tail(torch.where(change == 0, 0.0, change.abs() / error), count - 1)
    return Changes(
        layout.sources, start, start + change, change, low, high, p, benjamini_hochberg(p)
    )


def _by_source(
    values: Float[Tensor, "m edge"], rows: Tensor, layout: Layout
) -> Float[Tensor, "m source"]:
    """Sum over each source's outgoing edges."""
    totals = torch.zeros(len(values), layout.shape[0], dtype=torch.float64)
    return totals.index_add_(1, rows, values.double())


def number(value: float | Tensor) -> float | None:
    """A JSON number; None for what is undefined."""
    value = float(value)
    return value if math.isfinite(value) else None
