"""Which edges were added or removed with a node, and which were rewired among shared nodes.

An edge in one circuit and not in the other is *node-driven* if one of its two nodes is absent from
the other circuit, and *rewired* if both are in both. A node is in a circuit when one of the
circuit's edges leaves or enters it; under grouped-query attention a k or v edge enters every head
of its group.

Circuits of growing size are prefixes of one ranking of the edges: what is in one of them is in all
larger ones. So for each thing that can be in a circuit we compute its *entry*, the number of the
first circuit that holds it, and one pass serves every size:

    entry(edge)                = of the ranking (`ranking.Ranking`)
    entry(node)                = min of entry over the edges that leave or enter it
    entry(edge in both)        = max of its entry in checkpoint a and in checkpoint b
    entry(edge in either)      = min of its entry in a and in b
    entry(both nodes in both)  = max of entry over the edge's two nodes and the two checkpoints

In circuit number c, shared edges are those with entry(edge in both) <= c. Edges in either circuit
whose nodes are all in both have max(entry(edge in either), entry(both nodes in both)) <= c; less
the shared ones, these are the rewired edges. What is in no circuit has an entry above all numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int, Integer
from torch import Tensor

from circuits.graph import Layout


@dataclass(frozen=True)
class EdgeNodes:
    """Which nodes the possible edges touch.

    reader, node: the pairs of a reader and a node that it belongs to; the last node is `logits`.
    """

    layout: Layout
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
        return cls(layout, reader, node)

    def matrix(
        self, entry: Integer[Tensor, "m edge"], never: int
    ) -> Integer[Tensor, "m source reader"]:
        """Entry of each edge as a matrix; `never` at places without an edge."""
        sources, readers = self.layout.shape
        filled = entry.new_full((len(entry), sources * readers), never)
        possible = self.layout.mask.flatten().numpy()
        for row, entries in zip(filled.numpy(), entry.numpy(), strict=True):
            row[possible] = entries  # all rows at once would take ten times as long
        return rearrange(filled, "m (source reader) -> m source reader", source=sources)

    def entry(
        self, edges: Integer[Tensor, "m source reader"], never: int
    ) -> Integer[Tensor, "m node"]:
        """Entry of each node: the least among the edges that leave or enter it.

        edges: from `matrix`. never: a number above all circuits'.
        """
        entered = edges.new_full((len(edges), edges.shape[1] + 1), never)
        entered[:, :-1] = edges.amin(dim=2)  # by the edges that leave it; logits has none
        # By the edges that enter it: a node has several readers (q, k, v), and under grouped-query
        # attention one k or v reader belongs to several nodes. Hence pairs, and a scatter.
        incoming = edges.amin(dim=1)[:, self.reader]
        return entered.scatter_reduce_(1, self.node.expand(len(edges), -1), incoming, "amin")

    def joined(
        self, a: Integer[Tensor, "m node"], b: Integer[Tensor, "m node"]
    ) -> Integer[Tensor, "m source reader"]:
        """Of each edge, the number of the first circuit from which on both its nodes are in both.

        a, b: entry of the nodes at either checkpoint.
        """
        left, right = (self._of_sources_and_readers(entered) for entered in (a, b))
        # In both circuits: the later of the two entries. Both nodes: the later of those in turn.
        sources, readers = (torch.maximum(*sides) for sides in zip(left, right, strict=True))
        return torch.maximum(sources[:, :, None], readers[:, None, :])

    def _of_sources_and_readers(
        self, entered: Integer[Tensor, "m node"]
    ) -> tuple[Integer[Tensor, "m source"], Integer[Tensor, "m reader"]]:
        """Entry of each source and of each reader.

        A reader of several nodes (a KV head) is there as soon as one of them is.
        """
        never = torch.iinfo(entered.dtype).max
        readers = entered.new_full((len(entered), self.layout.shape[1]), never)
        readers.scatter_reduce_(
            1, self.reader.expand(len(entered), -1), entered[:, self.node], "amin"
        )
        return entered[:, :-1], readers


def turnover(
    a: Integer[Tensor, "m source reader"],
    b: Integer[Tensor, "m source reader"],
    joined: Integer[Tensor, "m source reader"],
    circuits: int,
) -> tuple[Int[Tensor, "m circuit"], Int[Tensor, "m circuit"]]:
    """In each circuit, the edges of both checkpoints, and those rewired.

    a, b: entry of each edge. joined: see `EdgeNodes.joined`. circuits: how many there are.
    Of the 2 * (size - shared) edges that were added or removed, those that were not rewired are
    node-driven.
    """
    in_both = counts_within(torch.maximum(a, b), circuits)
    in_either = torch.minimum(a, b)
    with_nodes_of_both = counts_within(torch.maximum(in_either, joined), circuits)
    # A shared edge has both its nodes in both circuits, so it is counted there too.
    return in_both, with_nodes_of_both - in_both


def counts_within(entry: Integer[Tensor, "m ..."], circuits: int) -> Int[Tensor, "m circuit"]:
    """How many things each circuit holds."""
    # NumPy counts in a twentieth of the time that a sum of truth values takes.
    rows = entry.numpy()
    return torch.tensor(
        [[np.count_nonzero(row <= number) for number in range(circuits)] for row in rows]
    )
