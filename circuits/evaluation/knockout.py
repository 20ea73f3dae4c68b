"""What is knocked out of a circuit, or put into it, at a time: an edge, a node, a neuron."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph import AnyCircuit, Circuit, Layout, NodeCircuit
from circuits.options.choices import Level
from tasks.pairs import PairSet

Mask = Bool[Tensor, "source reader"] | Bool[Tensor, " unit"]

_LEVELS: dict[bool, tuple[Level, ...]] = {True: ("edge", "node"), False: ("node", "neuron")}
"""What can be knocked out of a circuit: by whether it is one of edges."""


def search_and_report(pairs: PairSet, n: int | None, what: str) -> tuple[PairSet, PairSet]:
    """Halves of the first n pairs, or of all: what is found on one is reported on the other.

    what: needs them, for the refusal of fewer than two.
    """
    pairs = pairs[:n]
    if len(pairs) < 2:
        raise CircuitsError(f"{what} two pairs: one half to search on, one to report on")
    search, report = (replace(pairs, pairs=pairs.pairs[half::2]) for half in (1, 0))
    return search, report


def knocked_out(circuit: AnyCircuit) -> Mask:
    """What goes when a circuit is taken out of its model: all of it but what enters the model.

    Edges out of `input` and `bias` stay, as those nodes do: they bring the data, and where one of
    them feeds all that follows (the first MLP of many models) nothing is left without it.
    """
    if isinstance(circuit, NodeCircuit):
        return circuit.mask & ~circuit.units.roots
    mask = circuit.mask.clone()
    mask[list(circuit.layout.roots)] = False
    return mask


def components_inside(circuit: AnyCircuit, level: Level) -> dict[str, Mask]:
    """What each of the circuit's edges (nodes, neurons) takes with it when it is knocked out.

    A node is knocked out by cutting all that it writes: then nothing that it reads matters. What
    enters a stream (`input`, `bias`) and `logits` cannot be, since nothing is left without them.
    Masks reach beyond the circuit, so that a node can be knocked out of the whole model as well.
    """
    _check(circuit, level)
    if isinstance(circuit, NodeCircuit):
        return {
            name: mask for name, mask in _parts(circuit, level) if bool((mask & circuit.mask).any())
        }
    layout = circuit.layout
    if level == "edge":
        return {name: _only(layout, name) for name in circuit.edges}
    return {
        layout.sources[row]: _row(layout, row)
        for row in _components(layout)
        if circuit.mask[row].any()
    }


def components_outside(circuit: AnyCircuit, level: Level, n: int, *, seed: int) -> dict[str, Mask]:
    """What up to n random edges (nodes, neurons) from outside bring with them.

    A node brings every edge that joins it to the circuit's readers and sources.
    """
    _check(circuit, level)
    draw = torch.Generator().manual_seed(seed)
    if isinstance(circuit, NodeCircuit):
        others = [
            part for part in _parts(circuit, level) if not bool((part[1] & circuit.mask).any())
        ]
        return dict(others[index] for index in torch.randperm(len(others), generator=draw)[:n])
    layout = circuit.layout
    if level == "edge":
        absent = (layout.mask & ~circuit.mask).nonzero()
        edges = absent[torch.randperm(len(absent), generator=draw)[:n]].tolist()
        names = [layout.edge_name(row, column) for row, column in edges]
        return {name: _only(layout, name) for name in names}
    rows, columns = circuit.mask.any(dim=1), circuit.mask.any(dim=0)
    nodes = [row for row in _components(layout) if not rows[row]]
    brought = {}
    for index in torch.randperm(len(nodes), generator=draw)[:n].tolist():
        row = nodes[index]
        reads = torch.tensor([row in fed for fed in layout.feeds])
        new = (rows[:, None] & reads[None, :]) | (_row(layout, row) & columns[None, :])
        brought[layout.sources[row]] = new & layout.mask
    return brought


def _parts(circuit: NodeCircuit, level: Level) -> Iterator[tuple[str, Mask]]:
    """All nodes, or neurons, of the model but what enters it, each as a mask of its own."""
    units = circuit.units
    if level == "node":
        parts = [(units.layout.sources[row], units.of(row)) for row in _components(units.layout)]
    else:
        parts = [
            (units.name(neuron), slice(neuron, neuron + 1))
            for neuron in circuit.candidates.tolist()
        ]
    for name, index in parts:
        mask = torch.zeros_like(circuit.mask)
        mask[index] = True
        yield name, mask


def _components(layout: Layout) -> list[int]:
    """Rows of heads and MLPs."""
    return [row for row in range(layout.shape[0]) if row not in layout.roots]


def _only(layout: Layout, edge: str) -> Mask:
    mask = torch.zeros_like(layout.mask)
    mask[layout.edge(edge)] = True
    return mask


def _row(layout: Layout, row: int) -> Mask:
    mask = torch.zeros_like(layout.mask)
    mask[row] = layout.mask[row]
    return mask


def _check(circuit: AnyCircuit, level: Level) -> None:
    levels = _LEVELS[isinstance(circuit, Circuit)]
    if level not in levels:
        raise CircuitsError(
            f"no {level} can be knocked out of a circuit of {circuit.level}s; known: "
            f"{', '.join(levels)}"
        )
