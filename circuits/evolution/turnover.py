"""Which edges came and went with a node, and which were rewired among nodes present in both.

An edge in one circuit and not in the other is *node-driven* if one of its two nodes is absent from
the other circuit, and *rewired* if both are in both. A node is in a circuit when one of the
circuit's edges leaves or enters it; under grouped-query attention a k or v edge enters every head
of its group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.graph import Layout


@dataclass(frozen=True)
class Ends:
    """The two ends of every possible edge, as products: which nodes they touch.

    rows, columns: of each edge. feeds: for each reader the nodes that it belongs to.
    """

    rows: Tensor
    columns: Tensor
    feeds: Float[Tensor, "reader node"]

    @classmethod
    def of(cls, layout: Layout) -> Ends:
        """The ends of a layout's edges; the last node is `logits`."""
        sources, readers = layout.shape
        rows, columns = layout.mask.nonzero().T
        feeds = torch.zeros(readers, sources + 1)
        for column, nodes in enumerate(layout.feeds):
            feeds[column, list(nodes) or [sources]] = 1.0
        return cls(rows, columns, feeds)

    def nodes(self, edges: Bool[Tensor, "m edge"]) -> Bool[Tensor, "m node"]:
        """Nodes that a circuit's edges touch."""
        readers, nodes = self.feeds.shape
        leaves = torch.zeros(len(edges), nodes).index_add_(1, self.rows, edges.float())
        enters = torch.zeros(len(edges), readers).index_add_(1, self.columns, edges.float())
        return (leaves + enters @ self.feeds) > 0

    def within(self, nodes: Bool[Tensor, "m node"]) -> Bool[Tensor, "m edge"]:
        """Edges whose source and reader are both among the nodes."""
        readers = (nodes.float() @ self.feeds.T) > 0
        return nodes[:, self.rows] & readers[:, self.columns]


def turnover(
    ends: Ends, a: Bool[Tensor, "m edge"], b: Bool[Tensor, "m edge"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Node-driven and rewired edges, each as a share of the edges in either circuit.

    They add to 1 - Jaccard.
    """
    within_both = ends.within(ends.nodes(a)) & ends.within(ends.nodes(b))
    either = (a | b).sum(dim=1).clamp_min(1).double()
    changed = a ^ b
    rewired = (changed & within_both).sum(dim=1).double()
    return (changed.sum(dim=1).double() - rewired) / either, rewired / either
