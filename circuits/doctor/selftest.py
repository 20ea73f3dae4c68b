"""A circuit of the embedded model, from scoring to running it, against what it should be."""

from __future__ import annotations

import time

from circuits.doctor.diagnosis import Finding

_PAIRS, _SIZE = 4, 48
_CLEAN, _CORRUPTED = 2.05575, -2.32823
"""The metric's means on these pairs."""
_STRONGEST = "input->a0.h0<v>"
_CLOSE = 1e-3
"""Of the difference between clean and corrupted: what other hardware rounds otherwise is less."""


def selftest() -> Finding:
    """Score, select and run; the figures are known beforehand."""
    began = time.perf_counter()
    import transformers

    import tasks
    from circuits.attribution import attribute
    from circuits.evaluation.measure import measure
    from circuits.format import count, duration
    from circuits.graph import Circuit, select
    from circuits.models import HookedModel

    transformers.utils.logging.disable_progress_bar()
    model = HookedModel.from_pretrained("newsroom-gpt2")
    pairs = tasks.load("newsroom").pairs(model.tokenizer, n=_PAIRS, split="validation")
    scores = attribute(model, pairs)
    layout = model.layout
    circuits = (Circuit.full(layout), Circuit.empty(layout), select(scores, size=_SIZE))
    metrics = measure(model, pairs, circuits)
    gap = _CLEAN - _CORRUPTED
    full, empty, selected = (float(value) for value in metrics.circuits.mean(dim=0))
    figures = {
        "the metric on clean prompts": (float(metrics.clean.mean()), _CLEAN),
        "the metric on corrupted prompts": (float(metrics.corrupted.mean()), _CORRUPTED),
        "the metric of all edges": (full, _CLEAN),
        "the metric of no edge": (empty, _CORRUPTED),
    }
    for name, (value, expected) in figures.items():
        if abs(value - expected) > _CLOSE * abs(gap):
            return Finding(
                "failed",
                f"{name} is {value:.4f} and should be {expected:.4f}: torch or transformers "
                "compute otherwise here (constraints.txt names versions that are known to work)",
            )
    strongest = scores.top(1)[0][0]
    if strongest != _STRONGEST:
        return Finding("failed", f"the strongest edge is {strongest} and should be {_STRONGEST}")
    share = (selected - empty) / (full - empty)
    return Finding(
        "ok",
        f"{count(layout.n_edges)} edges of newsroom-gpt2 scored, {_SIZE} of them keep {share:.0%} "
        f"of the behaviour; {duration(time.perf_counter() - began)}",
    )
