"""Controls: circuits of the same size that nothing speaks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from circuits.graph.circuit import Circuit
from circuits.graph.levels import AnyCircuit
from circuits.graph.provenance import Provenance

C = TypeVar("C", bound=AnyCircuit)


def random_circuit(circuit: C, *, seed: int) -> C:
    """As many random edges (nodes, neurons) of the same model, unpruned: a control."""
    candidates = circuit.candidates
    shuffled = candidates[
        torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))
    ]
    mask = circuit.with_only(shuffled[: len(circuit)]).mask
    return replace(circuit, mask=mask, scores=None, provenance=Provenance())


def random_path(circuit: Circuit, draw: torch.Generator) -> list[tuple[int, int]]:
    """A way from what enters the model to its logits, of edges drawn one by one from the logits on.

    Args:
        circuit: its layout says which edges there are.
        draw: the source of the draws.

    Returns:
        Edges as places of the matrix, the one into the logits first.
    """
    layout = circuit.layout
    readers: dict[int, list[int]] = {}
    for column, rows in enumerate(layout.feeds):
        for row in rows:
            readers.setdefault(row, []).append(column)

    def pick(of: Sequence[int]) -> int:
        return of[int(torch.randint(len(of), (), generator=draw))]

    column, path = layout.logits_column, []
    while True:
        row = pick(list(layout.visible(column)))
        path.append((row, column))
        if row in layout.roots:
            return path
        column = pick(readers[row])
