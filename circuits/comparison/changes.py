"""What changed by how much: one row an edge or a node, with interval and false discovery rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.graph import Layout
from circuits.runtime.files import number
from circuits.statistics import (
    FALSE_DISCOVERY_RATE,
    RESOLUTION,
    benjamini_hochberg,
    jackknife_error,
    jackknife_interval,
    mean_inference,
    student_tail,
)

"""Differences below this share of the largest score are rounding, and count as none."""
_CHUNK = 2**21  # numbers held at once per buffer


@dataclass(frozen=True)
class Changes:
    """Paired changes of many quantities between two checkpoints.

    change: after - before, in the metric's units; low, high: its 95 % interval.
    p: that there is no change; q: Benjamini-Hochberg over all rows of this table.
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
    """Changes of means, paired by example; see `mean_inference`."""
    difference = after.double() - before.double()
    scale = torch.maximum(before.abs().amax(), after.abs().amax())
    # Two runs of one checkpoint may differ in the last bit; that is no change.
    difference = torch.where(difference.abs().amax(0) <= RESOLUTION * scale, 0.0, difference)
    low, high, p = mean_inference(difference, weights)
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
    return mean_changes(edge_names(layout), before, after, weights)


def edge_names(layout: Layout) -> tuple[str, ...]:
    """Names of the possible edges, in matrix order."""
    return tuple(layout.edge_name(row, column) for row, column in layout.mask.nonzero().tolist())


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
    return mean_changes(
        layout.sources, by_source(before, layout), by_source(after, layout), weights
    )


@dataclass(frozen=True)
class Strengths:
    """Every node's strength at one checkpoint: the sum of |mean score| over its outgoing edges.

    Noise lifts |mean|: weak edges add what their own noise is worth. left_out: the strengths
    without each example in turn.
    """

    value: Float[Tensor, " source"]
    left_out: Float[Tensor, "n source"]

    @classmethod
    def of(cls, layout: Layout, values: Float[Tensor, "n edge"]) -> Strengths:
        """From per-example scores over the possible edges, in matrix order."""
        count, total = len(values), values.sum(dim=0)
        parts = values.split(max(1, _CHUNK // values.shape[1]))
        left_out = [by_source(((total - part) / (count - 1)).abs(), layout) for part in parts]
        return cls(by_source((total / count).abs()[None], layout)[0], torch.cat(left_out))


def strength_changes(layout: Layout, before: Strengths, after: Strengths) -> Changes:
    """Change of every node's strength, with jackknife intervals, and p from the same t.

    Where one checkpoint's scores are twice as noisy as the other's, weak nodes pass as changed too
    often: believe their totals, which have no such bias.
    """
    count = len(before.left_out)
    change, left_out = after.value - before.value, after.left_out - before.left_out
    # Two runs of one checkpoint may differ in the last bit; that is no change.
    none = change.abs() <= RESOLUTION * torch.maximum(before.value, after.value).amax()
    change, left_out = (torch.where(none, 0.0, side) for side in (change, left_out))
    low, high = jackknife_interval(change, left_out)
    ratio = torch.where(change == 0, 0.0, change.abs() / jackknife_error(left_out))
    p = student_tail(ratio, count - 1)
    return Changes(
        layout.sources,
        before.value,
        before.value + change,
        change,
        low,
        high,
        p,
        benjamini_hochberg(p),
    )


def by_source(values: Float[Tensor, "m edge"], layout: Layout) -> Float[Tensor, "m source"]:
    """Sum over each source's outgoing edges, of values over the possible edges."""
    totals = torch.zeros(len(values), layout.shape[0], dtype=torch.float64)
    return totals.index_add_(1, layout.mask.nonzero()[:, 0], values.double())
