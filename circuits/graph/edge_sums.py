"""Sums over the edges that leave each source, and over those that enter each reader.

In matrix order a source's edges lie side by side, and those of them that enter neighbouring readers
do too. Such a stretch is added in one go. `index_add_` goes edge by edge, which for a million edges
takes a hundred times as many steps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from circuits.graph.layout import Layout


@dataclass(frozen=True)
class Stretch:
    """Possible edges in a row, of one source to neighbouring readers.

    first: number of the first edge. source: its row. reader: the first one's column.
    count: how many edges.
    """

    first: int
    source: int
    reader: int
    count: int


def add_by_source(
    totals: Float[Tensor, "n source"],
    layout: Layout,
    edges: slice,
    values: Float[Tensor, "n edge"],
) -> None:
    """Add each source's edges to its total, in place.

    edges: which possible edges the values are of, in matrix order.
    """
    for stretch, part in stretches_within(layout, edges):
        totals[:, stretch.source] += values[:, part].sum(dim=1)


def add_by_reader(
    totals: Float[Tensor, "n reader"],
    layout: Layout,
    edges: slice,
    values: Float[Tensor, "n edge"],
) -> None:
    """Add each reader's edges to its total, in place.

    edges: which possible edges the values are of, in matrix order.
    """
    for stretch, part in stretches_within(layout, edges):
        totals[:, stretch.reader : stretch.reader + stretch.count] += values[:, part]


@lru_cache(maxsize=1)
def stretches(layout: Layout) -> tuple[Stretch, ...]:
    """All possible edges, in matrix order."""
    rows, columns = layout.mask.nonzero().T
    begins = rows.new_ones(len(rows), dtype=bool)
    begins[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1] + 1)
    firsts = begins.nonzero().flatten()
    counts = firsts.diff(append=firsts.new_tensor([len(rows)]))
    places = zip(
        *(of.tolist() for of in (firsts, rows[firsts], columns[firsts], counts)), strict=True
    )
    return tuple(Stretch(*place) for place in places)


def stretches_within(layout: Layout, edges: slice) -> Iterator[tuple[Stretch, slice]]:
    """The stretches, or parts of them, that lie among some edges, and where they lie there."""
    every = stretches(layout)
    number = bisect_right(every, edges.start, key=lambda stretch: stretch.first) - 1
    for stretch in every[number:]:
        start = max(stretch.first, edges.start)
        stop = min(stretch.first + stretch.count, edges.stop)
        if stop <= start:
            return
        part = Stretch(start, stretch.source, stretch.reader + start - stretch.first, stop - start)
        yield part, slice(start - edges.start, stop - edges.start)
