"""Which edges were added or removed with a node, and which were rewired among shared nodes.

An edge in one circuit and not in the other is *node-driven* if one of its two nodes is absent from
the other circuit, and *rewired* if both are in both. A node is in a circuit when one of the
circuit's edges leaves or enters it; under grouped-query attention a k or v edge enters every head
of its group.

Circuits of growing size are prefixes of one ranking of the edges: an edge of rank r (from 0) is in
every circuit of more than r edges. So for each thing that can be in a circuit we compute its *entry
rank*, the least rank from which on it is there, and one pass serves every size:

    entry(edge)                = its rank
    entry(node)                = min of entry over the edges that leave or enter it
    entry(edge in both)        = max of its entry in circuit a and in circuit b
    entry(edge in either)      = min of its entry in a and in b
    entry(both nodes in both)  = max of entry over the edge's two nodes and the two circuits

At size s, shared edges are those with entry(edge in both) < s. Edges in either circuit whose nodes
are all in both have max(entry(edge in either), entry(both nodes in both)) < s; less the shared
ones, these are the rewired edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from circuits.graph import Layout


@dataclass(frozen=True)
class EdgeNodes:
    """Which nodes the possible edges touch.

    positions: of the edges in the flattened matrix. reader, node: the pairs of a reader and a node
    that it belongs to; the last node is `logits`.
    """

    layout: Layout
    positions: Int[Tensor, " edge"]
    reader: Int[Tensor, " pair"]
    node: Int[Tensor, " pair"]

    @classmethod
    def of(cls, layout: Layout) -> EdgeNodes:
        """The nodes of a layout's edges."""
        sources = layout.shape[0]
        pairs = [
            (column, node)
            for column, nodes in enumerate(layout.feeds)
            for node in list(nodes) or [sources]
        ]
        reader, node = torch.tensor(pairs).T
        return cls(layout, layout.mask.flatten().nonzero().flatten(), reader, node)

    def entry(self, ranks: Int[Tensor, "m edge"]) -> Int[Tensor, "m node"]:
        """Entry rank of each node: the least rank among the edges that leave or enter it."""
        sources, readers = self.layout.shape
        never = ranks.shape[1]  # above every rank: such a node has no edge
        # Ranks as a matrix of sources by readers; places without an edge never enter.
        filled = ranks.new_full((len(ranks), sources * readers), never)
        filled[:, self.positions] = ranks
        matrix = rearrange(filled, "k (source reader) -> k source reader", source=sources)
        entered = ranks.new_full((len(ranks), sources + 1), never)
        entered[:, :-1] = matrix.amin(dim=2)  # by the edges that leave it; logits has none
        # By the edges that enter it: a node has several readers (q, k, v), and under grouped-query
        # attention one k or v reader belongs to several nodes. Hence pairs, and a scatter.
        incoming = matrix.amin(dim=1)[:, self.reader]
        return entered.scatter_reduce_(1, self.node.expand(len(ranks), -1), incoming, "amin")

    def joined(self, a: Int[Tensor, "m node"], b: Int[Tensor, "m node"]) -> Int[Tensor, "m edge"]:
        """Of each edge, the rank from which on both its nodes are in both circuits.

        a, b: entry ranks of the nodes in either circuit.
        """
        left, right = (self._of_sources_and_readers(entered) for entered in (a, b))
        # In both circuits: the later of the two entries. Both nodes: the later of those in turn.
        sources, readers = (torch.maximum(*sides) for sides in zip(left, right, strict=True))
        entry = torch.maximum(sources[:, :, None], readers[:, None, :])
        return entry.flatten(1)[:, self.positions]

    def _of_sources_and_readers(
        self, entered: Int[Tensor, "m node"]
    ) -> tuple[Int[Tensor, "m source"], Int[Tensor, "m reader"]]:
        """Entry rank of each source and of each reader.

        A reader of several nodes (a KV head) is there as soon as one of them is.
        """
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

    a, b: rank of each edge, from 0. joined: see `EdgeNodes.joined`.
    Of the 2 * (size - shared) edges that were added or removed, those that were not rewired are
    node-driven.
    """
    in_both = counts_below(torch.maximum(a, b), sizes)
    in_either = torch.minimum(a, b)
    with_nodes_of_both = counts_below(torch.maximum(in_either, joined), sizes)
    # A shared edge has both its nodes in both circuits, so it is counted there too.
    return in_both, with_nodes_of_both - in_both


def counts_below(ranks: Int[Tensor, "m k"], sizes: tuple[int, ...]) -> Int[Tensor, "m size"]:
    """How many ranks lie below each size."""
    return torch.stack([(ranks < size).sum(dim=1) for size in sizes], dim=1)
