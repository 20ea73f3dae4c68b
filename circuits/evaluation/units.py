"""What is taken out of a circuit, or put into it, at a time: an edge, or a node with its edges."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph import Circuit, Layout

UNITS = ("edges", "nodes")

Mask = Bool[Tensor, "source reader"]


def units_inside(circuit: Circuit, unit: str) -> dict[str, Mask]:
    """What each of the circuit's edges (or nodes) takes with it when it is knocked out.

    A node is knocked out by cutting all that it writes: then nothing that it reads matters. `input`
    and `logits` are no units, since nothing is left without them. Masks reach beyond the circuit,
    so that a node can be knocked out of the whole model as well.
    """
    layout = circuit.layout
    if unit == "edges":
        return {name: _only(layout, name) for name in circuit.edges}
    _require(unit)
    return {
        layout.sources[row]: _row(layout, row)
        for row in range(1, layout.shape[0])
        if circuit.mask[row].any()
    }


def units_outside(circuit: Circuit, unit: str, n: int, *, seed: int) -> dict[str, Mask]:
    """What up to n random edges (or nodes) from outside bring with them.

    A node brings every edge that joins it to the circuit's readers and sources.
    """
    layout = circuit.layout
    draw = torch.Generator().manual_seed(seed)
    if unit == "edges":
        others = (layout.mask & ~circuit.mask).nonzero()
        chosen = others[torch.randperm(len(others), generator=draw)[:n]].tolist()
        names = [layout.edge_name(row, column) for row, column in chosen]
        return {name: _only(layout, name) for name in names}
    _require(unit)
    rows, columns = circuit.mask.any(dim=1), circuit.mask.any(dim=0)
    nodes = (~rows[1:]).nonzero().flatten() + 1
    brought = {}
    for row in nodes[torch.randperm(len(nodes), generator=draw)[:n]].tolist():
        reads = torch.tensor([row in fed for fed in layout.feeds])
        new = (rows[:, None] & reads[None, :]) | (_row(layout, row) & columns[None, :])
        brought[layout.sources[row]] = new & layout.mask
    return brought


def _only(layout: Layout, edge: str) -> Mask:
    mask = torch.zeros_like(layout.mask)
    mask[layout.edge(edge)] = True
    return mask


def _row(layout: Layout, row: int) -> Mask:
    mask = torch.zeros_like(layout.mask)
    mask[row] = layout.mask[row]
    return mask


def _require(unit: str) -> None:
    if unit not in UNITS:
        raise CircuitsError(f"unknown unit {unit!r}; known: {', '.join(UNITS)}")
