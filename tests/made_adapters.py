"""What a made run says of adapters' circuits, and of neurons that were put back."""

from __future__ import annotations

import torch
from made_training import estimate

from circuits.comparison import Evolution
from circuits.comparison.agreement import DRAWN
from circuits.comparison.overlap import Overlap
from circuits.graph.provenance import DataRecord
from circuits.model_diff.attention_change import AttentionChange
from circuits.model_diff.restored import Restoration, RestoredSet
from circuits.statistics.estimate import Estimates
from circuits.tuning.adapter_circuits import AdapterCircuits


def lora_circuits(found: Evolution, base: str, before: str, tuned: str) -> AdapterCircuits:
    """Two LoRAs: one as like the last checkpoint as that is itself, one no more than the base."""
    adapters = ("circuit-seed-0", "random-seed-0")
    apart, alike = found.between(base, tuned), found.between(before, tuned)
    attention = [
        AttentionChange(
            model,
            other,
            estimate(kl, kl / 2),
            Estimates(*(torch.full((4,), kl * end).double() for end in (1.0, 0.5, 1.5)), 100),
        )
        for model, other, kl in (
            (adapters[0], base, 0.04),
            (adapters[1], base, 0.03),
            (tuned, base, 0.06),
            (adapters[0], tuned, 0.0123),
            (adapters[1], tuned, 0.05),
        )
    ]
    return AdapterCircuits(
        base=base,
        tuned=tuned,
        adapters=adapters,
        method=found.method,
        scored=found.data,
        read=DataRecord(task="newsroom", split="test", n=100, fingerprint="7e57"),
        n_resamples=100,
        samples=DRAWN,
        seed=0,
        overlaps=tuple(
            Overlap(name, tuned, one.spearman, one.weighted_jaccard, one.sizes)
            for name, one in ((base, apart), (adapters[0], alike), (adapters[1], apart))
        ),
        attention=tuple(attention),
    )


def restoration(base: str, tuned: str) -> Restoration:
    """Two candidates that undo a third each and half together, and controls that undo nothing."""
    a, b = "m0.n5", "m3.n7"
    sets = [
        RestoredSet(kind=kind, size=len(neurons), neurons=neurons, undone=estimate(share))
        for kind, neurons, share in (
            ("alone", (a,), 0.31),
            ("alone", (b,), 0.32),
            ("top", (a,), 0.31),
            ("top", (a, b), 0.5),
            ("greedy", (b,), 0.32),
            ("random", (a,), 0.31),
            ("random", (b,), 0.32),
            ("control", ("m0.n6",), 0.0),
            ("control", ("m0.n6", "m3.n8"), 0.01),
        )
    ]
    everything = RestoredSet(kind="all", size=2048, neurons=(), undone=estimate(0.8))
    data = DataRecord(task="newsroom", split="test", n=100, fingerprint="7e57")
    return Restoration(
        model=tuned,
        base=base,
        metric="logit-difference",
        data=data,
        chosen_on=DataRecord(task="newsroom", split="validation", n=16, fingerprint="da7a"),
        candidates=(a, b),
        tuned=estimate(3.0),
        original=estimate(1.0),
        gained=estimate(2.0),
        sets=(*sets, everything),
    )
