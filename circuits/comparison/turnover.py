"""Which edges came and went with a node, and which were rewired among nodes present in both.

An edge in one circuit and not in the other is *node-driven* if one of its two nodes is absent from
the other circuit, and *rewired* if both are in both. A node is in a circuit when one of the
circuit's edges leaves or enters it; under grouped-query attention a k or v edge enters every head
of its group.

Circuits of growing size are one ranking read further: everything here is the rank from which on
something is in the circuit, so that one pass serves every size. An edge of rank r is in all
circuits of more than r edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.graph import Layout


@dataclass(frozen=True)
class Ends:
    """Which nodes the possible edges touch.

    places: where they stand in the flattened matrix. reader, node: the pairs of a reader and a node
    that it belongs to; the last node is `logits`.
    """

    layout: Layout
    places: Int[Tensor, " edge"]
    reader: Int[Tensor, " pair"]
    node: Int[Tensor, " pair"]

    @classmethod
    def of(cls, layout: Layout) -> Ends:
        """The ends of a layout's edges."""
        sources = layout.shape[0]
        pairs = [
            (column, node)
            for column, nodes in enumerate(layout.feeds)
            for node in list(nodes) or [sources]
        ]
        reader, node = torch.tensor(pairs).T
        return cls(layout, layout.mask.flatten().nonzero().flatten(), reader, node)

    def entry(self, ranks: Int[Tensor, "m edge"]) -> Int[Tensor, "m node"]:
        """Of each node, the least rank among the edges that leave or enter it."""
        sources, readers = self.layout.shape
        never = ranks.shape[1]
        filled = ranks.new_full((len(ranks), sources * readers), never)
        filled[:, self.places] = ranks
        matrix = filled.unflatten(1, (sources, readers))
        entered = ranks.new_full((len(ranks), sources + 1), never)
        entered[:, :-1] = matrix.amin(dim=2)
        incoming = matrix.amin(dim=1)[:, self.reader]
        return entered.scatter_reduce_(1, self.node.expand(len(ranks), -1), incoming, "amin")

    def joined(self, a: Int[Tensor, "m node"], b: Int[Tensor, "m node"]) -> Int[Tensor, "m edge"]:
        """Of each edge, the rank from which on both its nodes are in both circuits."""
        left, right = (self._ends(entered) for entered in (a, b))
        sources, readers = (torch.maximum(*sides) for sides in zip(left, right, strict=True))
        both = torch.maximum(sources[:, :, None], readers[:, None, :])
        return both.flatten(1)[:, self.places]

    def _ends(
        self, entered: Int[Tensor, "m node"]
    ) -> tuple[Int[Tensor, "m source"], Int[Tensor, "m reader"]]:
        """Entry of each source, and of each reader: that of the first of its nodes."""
        never = torch.iinfo(entered.dtype).max
        readers = entered.new_full((len(entered), self.layout.shape[1]), never)
        readers.scatter_reduce_(
            1, self.reader.expand(len(entered), -1), entered[:, self.node], "amin"
        )
        return entered[:, :-1], readers


def turnover(
    a: Int[Tensor, "m edge"],
    b: Int[Tensor, "m edge"],
    joined: Int[Tensor, "m edge"],
    sizes: tuple[int, ...],
) -> tuple[Int[Tensor, "m size"], Int[Tensor, "m size"]]:
    """At each size, the edges in both circuits, and those rewired, from two rankings of the edges.

    joined: see `Ends.joined`. Of the 2 * (size - shared) edges that came or went, those not rewired
    are node-driven.
    """
    shared = torch.maximum(a, b)
    first = torch.maximum(torch.minimum(a, b), joined)
    within = counts_below(shared, sizes)
    # Shared edges have both nodes in both circuits, so they are among those counted by `first`.
    return within, counts_below(first, sizes) - within


def counts_below(ranks: Int[Tensor, "m k"], sizes: tuple[int, ...]) -> Int[Tensor, "m size"]:
    """How many ranks lie below each size."""
    return torch.stack([(ranks < size).sum(dim=1) for size in sizes], dim=1)
