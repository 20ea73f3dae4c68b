"""The nodes of a circuit, from its edges one by one."""

from __future__ import annotations

from circuits.graph import Circuit


def touched(circuit: Circuit) -> set[str]:
    """Nodes that an edge leaves or enters; a k or v that heads share is entered for all of them."""
    layout, found = circuit.layout, set[str]()
    for row, column in circuit.mask.nonzero().tolist():
        found |= {layout.sources[row]}
        found |= {layout.sources[place] for place in layout.feeds[column]} or {"logits"}
    return found
