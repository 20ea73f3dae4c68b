"""What changed by how much: one row an edge or a node, with interval and false discovery rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.graph import Layout
from circuits.graph.edge_sums import add_by_source
from circuits.graph.edge_values import EdgeValues
from circuits.runtime.result_file import AsList, MaybeUndefined
from circuits.statistics import (
    FALSE_DISCOVERY_RATE,
    RESOLUTION,
    benjamini_hochberg,
    jackknife_error,
    jackknife_interval,
    mean_inference,
    student_tail,
)
from circuits.statistics.estimate import Estimate, Estimates


@dataclass(frozen=True)
class Change:
    """One row of `Changes`: an edge or a node.

    Attributes:
        name: of the edge or node.
        before: its score at the earlier checkpoint, in the metric's units.
        after: its score at the later one.
        change: after - before, with its 95 % interval.
        p: of no change.
        q: Benjamini-Hochberg over all rows that were tested.
    """

    name: str
    before: MaybeUndefined
    after: MaybeUndefined
    change: Estimate
    p: MaybeUndefined
    q: MaybeUndefined


@dataclass(frozen=True)
class Changes:
    """Paired changes of many edges or nodes between two checkpoints, a row each.

    Attributes:
        names: of the rows.
        before: score at the earlier checkpoint, in the metric's units.
        after: score at the later one.
        change: after - before, with its 95 % interval.
        p: of no change.
        q: Benjamini-Hochberg over all rows that were tested.
        tested: how many rows were tested. A file may keep fewer (`top`), but keeps all that
            changed.
    """

    names: tuple[str, ...]
    before: Annotated[Float[Tensor, " k"], AsList()]
    after: Annotated[Float[Tensor, " k"], AsList()]
    change: Estimates
    p: Annotated[Float[Tensor, " k"], AsList()]
    q: Annotated[Float[Tensor, " k"], AsList()]
    tested: int

    def __len__(self) -> int:
        return len(self.names)

    @property
    def significant(self) -> Bool[Tensor, " k"]:
        """Which rows changed at a false discovery rate of 5 %."""
        return self.q <= FALSE_DISCOVERY_RATE

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the rows that changed at a false discovery rate of 5 %, largest change first."""
        significant = self.significant
        return tuple(self.names[row] for row in self.order() if significant[row])

    @property
    def risen(self) -> int:
        """How many of the rows that changed rose."""
        return int((self.significant & (self.change.value > 0)).sum())

    @property
    def fallen(self) -> int:
        """How many of the rows that changed fell."""
        return int((self.significant & (self.change.value < 0)).sum())

    def order(self) -> list[int]:
        """Rows: those that changed first, then by size of the change; ties as they stand."""
        size = self.change.value.abs().numpy()
        order: list[int] = np.lexsort((-size, ~self.significant.numpy())).tolist()
        return order

    def row(self, index: int) -> Change:
        """One row."""
        return Change(
            self.names[index],
            float(self.before[index]),
            float(self.after[index]),
            self.change[index],
            float(self.p[index]),
            float(self.q[index]),
        )

    def top(self, count: int) -> Changes:
        """The first rows in `order`; counts of what was tested stay."""
        rows = self.order()[:count]
        value, low, high = (
            side[rows] for side in (self.change.value, self.change.low, self.change.high)
        )
        before, after, p, q = (side[rows] for side in (self.before, self.after, self.p, self.q))
        names = tuple(self.names[row] for row in rows)
        change = Estimates(value, low, high, self.change.n)
        return Changes(names, before, after, change, p, q, self.tested)


_Columns = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of some rows of `Changes`: the change, its low and high end, p."""


def mean_changes(
    names: tuple[str, ...],
    before: Float[Tensor, "n k"],
    after: Float[Tensor, "n k"],
    weights: Float[Tensor, "resample n"],
) -> Changes:
    """Changes of means, paired by example; see `mean_inference`."""
    scale = torch.maximum(before.abs().amax(), after.abs().amax())
    return _changes(
        names, before.double().mean(dim=0), _paired(before, after, scale, weights), len(before)
    )


def edge_changes(
    before: EdgeValues, after: EdgeValues, weights: Float[Tensor, "resample n"]
) -> Changes:
    """Change of every possible edge's mean score."""
    scale = torch.maximum(before.summary.largest, after.summary.largest)
    # Made before all blocks, as in `EdgeValues.summary`.
    change, low, high, p = columns = tuple(
        torch.empty(len(before.flat_indices), dtype=torch.float64) for _ in range(4)
    )
    for (edges, old), (_, new) in zip(before.blocks(), after.blocks(), strict=True):
        for column, part in zip(columns, _paired(old, new, scale, weights), strict=True):
            column[edges] = part
    return _changes(
        edge_names(before.layout), before.summary.mean, (change, low, high, p), len(before)
    )


def _paired(
    before: Float[Tensor, "n k"],
    after: Float[Tensor, "n k"],
    scale: Float[Tensor, ""],
    weights: Float[Tensor, "resample n"],
) -> _Columns:
    """scale: the largest |score| of all rows, beside which a difference may be rounding."""
    difference = after.double() - before.double()
    # Two runs of one checkpoint may differ in the last bit; that is no change.
    difference.masked_fill_(difference.abs().amax(0) <= RESOLUTION * scale, 0.0)
    low, high, p = mean_inference(difference, weights)
    return difference.mean(dim=0), low, high, p


def _changes(
    names: tuple[str, ...], start: Float[Tensor, " k"], columns: _Columns, n: int
) -> Changes:
    change, low, high, p = columns
    return Changes(
        names,
        start,
        start + change,
        Estimates(change, low, high, n),
        p,
        benjamini_hochberg(p),
        len(names),
    )


@lru_cache(maxsize=1)
def edge_names(layout: Layout) -> tuple[str, ...]:
    """Names of the possible edges, in matrix order; of a large model made once only."""
    return tuple(layout.edge_name(row, column) for row, column in layout.mask.nonzero().tolist())


def total_changes(
    before: EdgeValues, after: EdgeValues, weights: Float[Tensor, "resample n"]
) -> Changes:
    """Change of every node's total: the signed sum of its outgoing edges' scores.

    To first order that is how much the metric falls when the whole node is corrupted. It is linear
    in the examples, so its mean carries no bias.
    """
    return mean_changes(before.layout.sources, before.by_source, after.by_source, weights)


@dataclass(frozen=True)
class Strengths:
    """Every node's strength at one checkpoint: the sum of |mean score| over its outgoing edges.

    Noise lifts |mean|: weak edges add what their own noise is worth.

    Attributes:
        value: strength of each source, in the metric's units.
        left_out: the strengths without each example in turn, for the jackknife.
    """

    value: Float[Tensor, " source"]
    left_out: Float[Tensor, "n source"]

    @classmethod
    def of(cls, values: EdgeValues) -> Strengths:
        """From per-example scores."""
        count, layout = len(values), values.layout
        total = values.summary.total
        left_out = torch.zeros(count, layout.shape[0], dtype=torch.float64)
        for edges, part in values.blocks():
            others = (total[edges] - part).div_(count - 1).abs_()
            add_by_source(left_out, layout, edges, others.double())
        return cls(by_source((total / count).abs()[None], layout)[0], left_out)

    @property
    def estimates(self) -> Estimates:
        """Strengths with their 95 % jackknife intervals."""
        low, high = jackknife_interval(self.value, self.left_out)
        return Estimates(self.value, low, high, len(self.left_out))


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
        Estimates(change, low, high, count),
        p,
        benjamini_hochberg(p),
        len(layout.sources),
    )


def by_source(values: Float[Tensor, "m edge"], layout: Layout) -> Float[Tensor, "m source"]:
    """Sum over each source's outgoing edges, of values over the possible edges."""
    totals = torch.zeros(len(values), layout.shape[0], dtype=torch.float64)
    return totals.index_add_(1, layout.mask.nonzero()[:, 0], values.double())
