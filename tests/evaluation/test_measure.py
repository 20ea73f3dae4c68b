"""Circuits measured on a batch are not measured again after a stop in the middle of it."""

from __future__ import annotations

import pytest
import torch

from circuits.evaluation.measure import measure
from circuits.graph import Circuit
from circuits.graph.controls import random_circuit
from circuits.intervention import CircuitRunner
from circuits.runtime.resume import Pieces


def test_a_batch_that_was_stopped_goes_on_with_the_circuits_that_are_left(
    hooked, random_pairs, tmp_path, monkeypatch
):
    model, pairs = hooked("gpt2"), random_pairs(n=3)
    whole = Circuit.full(model.layout)
    half = whole.with_only(whole.candidates[::2])
    circuits = [whole, *(random_circuit(half, seed=seed) for seed in range(4))]
    expected = measure(model, pairs, circuits)
    assert expected.circuits.std(dim=1).min() > 0
    original, runs = CircuitRunner.logits, []

    def counted(self, circuit):
        if len(runs) == 3:
            raise KeyboardInterrupt
        runs.append(circuit)
        return original(self, circuit)

    monkeypatch.setattr(CircuitRunner, "logits", counted)
    with pytest.raises(KeyboardInterrupt), Pieces(tmp_path / "partial") as resume:
        measure(model, pairs, circuits, resume=resume)
    runs = runs[:0]
    with Pieces(tmp_path / "partial") as resume:
        found = measure(model, pairs, circuits, resume=resume)
    assert len(runs) == len(circuits) - 3
    for name in ("clean", "corrupted", "circuits"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
