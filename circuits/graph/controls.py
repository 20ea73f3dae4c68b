"""Controls: circuits of the same size that nothing speaks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch

from circuits.graph.levels import AnyCircuit
from circuits.graph.provenance import Provenance

C = TypeVar("C", bound=AnyCircuit)


def random_circuit(circuit: C, *, seed: int) -> C:
    """As many random edges (nodes, neurons) of the same model, unpruned: a control."""
    places = circuit.candidates
    shuffled = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))]
    mask = circuit.with_only(shuffled[: len(circuit)]).mask
    return replace(circuit, mask=mask, scores=None, provenance=Provenance())
