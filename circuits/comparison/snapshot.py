"""One checkpoint's mean scores on samples of the examples, and how similar two of them are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from circuits.comparison.ranking import Ranking
from circuits.comparison.similarity import correlation, inverse, weighted_jaccard
from circuits.comparison.turnover import EdgeNodes, counts_within, turnover

WHOLE = ("spearman", "weighted_jaccard")
SIZED = (
    "edge_jaccard",
    "weighted_jaccard",
    "node_jaccard",
    "node_driven",
    "rewired",
    "rewired_share",
)
OF_NODES = ("node_jaccard", "node_driven", "rewired_share")


@dataclass(frozen=True)
class Snapshot:
    """Mean scores of one checkpoint on m samples, and its edges ranked on each.

    sizes: of the circuits, ascending.
    """

    means: Float[Tensor, "m edge"]
    sizes: tuple[int, ...]
    edge_nodes: EdgeNodes

    @cached_property
    def ranking(self) -> Ranking:
        """Edges by |score|, and the circuits that hold them: those of `select`."""
        return Ranking.of(self.means, self.sizes)

    @cached_property
    def edge_entry(self) -> Integer[Tensor, "m source reader"]:
        """Number of the first circuit that holds each edge."""
        return self.edge_nodes.matrix(self.ranking.entry, len(self.sizes))

    @cached_property
    def node_entry(self) -> Integer[Tensor, "m node"]:
        """Number of the first circuit that holds each node."""
        return self.edge_nodes.entry(self.edge_entry, len(self.sizes))

    @cached_property
    def strengths(self) -> Float[Tensor, "m edge"]:
        """|score|."""
        return self.means.abs()

    @cached_property
    def scale(self) -> Float[Tensor, "m 1"]:
        """1 over the sum of all |score|."""
        return inverse(self.strengths.sum(dim=1))

    @cached_property
    def shares(self) -> Float[Tensor, "m edge"]:
        """|score| over its sum over all edges."""
        return self.strengths * self.scale

    @cached_property
    def member_strengths(self) -> Float[Tensor, "m member"]:
        """|score| of the largest circuit's edges, those of smaller circuits first."""
        return self.strengths.gather(1, self.ranking.members)

    @cached_property
    def scales(self) -> Float[Tensor, "m size 1"]:
        """Of each circuit, 1 over the sum of its edges' |score|."""
        sums = [self.member_strengths[:, :size].sum(dim=1) for size in self.sizes]
        return inverse(torch.stack(sums, dim=1))


def similarities(a: Snapshot, b: Snapshot) -> Float[Tensor, "m measure"]:
    """`WHOLE`, then `SIZED` for each size."""
    sizes = torch.tensor(a.sizes)
    joined = a.edge_nodes.joined(a.node_entry, b.node_entry)
    shared, rewired = turnover(a.edge_entry, b.edge_entry, joined, len(sizes))
    either = 2 * sizes - shared
    added_or_removed = either - shared
    shared_nodes = counts_within(torch.maximum(a.node_entry, b.node_entry), len(sizes)).double()
    either_node = counts_within(torch.minimum(a.node_entry, b.node_entry), len(sizes))
    sized = (
        shared / either,
        _weighted(a, b),
        shared_nodes / either_node,
        (added_or_removed - rewired) / either,
        rewired / either,
        rewired / added_or_removed,
    )
    unsized = (
        correlation(a.ranking.ranks, b.ranking.ranks),
        weighted_jaccard(a.shares, b.shares, a.scale, b.scale),
    )
    return torch.cat(
        [
            torch.stack(unsized, dim=1),
            torch.stack([column.double() for column in sized], dim=2).flatten(1),
        ],
        dim=1,
    )


def _weighted(a: Snapshot, b: Snapshot) -> Float[Tensor, "m size"]:
    """Weighted Jaccard of the circuits at each size; only edges of both circuits contribute."""
    theirs = b.strengths.gather(1, a.ranking.members)
    entry = b.ranking.entry.gather(1, a.ranking.members)
    by_size = []
    for number, size in enumerate(a.sizes):
        ours, scales = a.member_strengths[:, :size], (a.scales[:, number], b.scales[:, number])
        shared = torch.where(entry[:, :size] <= number, theirs[:, :size], 0.0)
        by_size.append(weighted_jaccard(ours * scales[0], shared * scales[1], *scales))
    return torch.stack(by_size, dim=1)
