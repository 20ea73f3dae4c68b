"""Which edges came and went with a node, and which were rewired among nodes present in both.

An edge in one circuit and not in the other is *node-driven* if one of its two nodes is absent from
the other circuit, and *rewired* if both are in both. A node is in a circuit when one of the
circuit's edges leaves or enters it; under grouped-query attention a k or v edge enters every head
of its group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.graph import Layout


@dataclass(frozen=True)
class Ends:
    """Which nodes an edge touches, and where the possible edges stand in the flattened matrix.

    feeds: for each reader the nodes that it belongs to; the last node is `logits`.
    """

    places: Int[Tensor, " edge"]
    feeds: Float[Tensor, "reader node"]

    @classmethod
    def of(cls, layout: Layout) -> Ends:
        """The ends of a layout's edges."""
        sources, readers = layout.shape
        feeds = torch.zeros(readers, sources + 1)
        for column, nodes in enumerate(layout.feeds):
            feeds[column, list(nodes) or [sources]] = 1.0
        return cls(layout.mask.flatten().nonzero().flatten(), feeds)

    def nodes(self, edges: Bool[Tensor, "m source reader"]) -> Bool[Tensor, "m node"]:
        """Nodes that each circuit's edges touch."""
        flags = edges.view(torch.uint8)  # the maximum of bytes is ten times as fast as any()
        touched = (flags.amax(dim=1).float() @ self.feeds) > 0
        touched[:, :-1] |= flags.amax(dim=2) > 0
        return touched

    def within(self, nodes: Bool[Tensor, "m node"]) -> Bool[Tensor, "m source reader"]:
        """Places whose source and reader are both among the nodes."""
        readers = (nodes.float() @ self.feeds.T) > 0
        return nodes[:, :-1, None] & readers[:, None, :]


def turnover(
    a: Bool[Tensor, "m source reader"],
    b: Bool[Tensor, "m source reader"],
    within_both: Bool[Tensor, "m source reader"],
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Node-driven and rewired edges, each as a share of the edges in either circuit.

    within_both: places between nodes that both circuits have (`Ends.within` of each, and both). The
    two shares add to 1 - Jaccard; they are 0 for two empty circuits.
    """
    changed = a ^ b
    either = (a | b).sum(dim=(1, 2)).clamp_min(1).double()
    rewired = (changed & within_both).sum(dim=(1, 2)).double()
    return (changed.sum(dim=(1, 2)).double() - rewired) / either, rewired / either
