"""Time of running circuits against the plain forward passes that they contain.

    python scripts/benchmarks/evaluation.py [--repeats 3] [--threads 2]

GPT-2-small shape with random weights, 2 x 128 tokens that share nothing, so that no position is
saved. The floor of one circuit is one plain forward pass; the clean and the corrupted run that all
circuits of a batch share are timed apart, against two plain passes. Circuits are random edges, the
dearest kind: nothing is pruned, almost every source is used and no reader is left alone until all
edges are kept; and half of the nodes, and of the neurons, at random. The sides run alternately in
one process. One JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial

import torch
from attribution import pairs, seconds
from transformers import GPT2Config, GPT2LMHeadModel

from circuits.graph import Circuit, Layout, NodeCircuit, Units
from circuits.intervention import CircuitRunner
from circuits.models import HookedModel
from tasks.pairs import PairBatch

SHARES = (0.001, 0.01, 0.1, 0.5, 0.99, 1.0)


def random_circuit(layout: Layout, share: float) -> Circuit:
    """A share of all edges, drawn at random."""
    draw = torch.rand(layout.shape, generator=torch.Generator().manual_seed(0))
    threshold = draw[layout.mask].quantile(share) if share < 1 else torch.tensor(2.0)
    return Circuit(layout, (draw <= threshold) & layout.mask)


def plain(model: HookedModel, batch: PairBatch, passes: int = 1) -> None:
    """Plain forward passes."""
    with torch.no_grad():
        for _ in range(passes):
            model.logits(batch.clean, batch)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = HookedModel(GPT2LMHeadModel(GPT2Config()), None, "GPT-2-small shape, random weights")
    batch = pairs(2, 128, 0)
    executor = CircuitRunner(model, batch)
    sides: dict[str, tuple[Callable[[], object], int]] = {
        "clean and corrupted": (partial(CircuitRunner, model, batch), 2)
    }
    for share in SHARES:
        circuit = random_circuit(model.layout, share)
        sides[f"{share:.1%}"] = (partial(executor.logits, circuit), 1)
    for units in (Units.of_nodes(model.layout), Units(model.layout, model.view.widths)):
        half = torch.rand(len(units), generator=torch.Generator().manual_seed(0)) < 0.5
        sides[f"50.0% of {units.level}s"] = (
            partial(executor.logits, NodeCircuit(units, half | units.roots)),
            1,
        )
    ratios: dict[str, list[float]] = {side: [] for side in sides}
    for repeat in range(arguments.repeats + 1):
        for side, (work, passes) in sides.items():
            floor = seconds(partial(plain, model, batch, passes))
            duration = seconds(work)
            if repeat:  # the first round warms up
                ratios[side].append(duration / floor)
    medians = {side: round(statistics.median(values), 3) for side, values in ratios.items()}
    print(json.dumps({"shape": "2 x 128", "threads": arguments.threads, "time_ratio": medians}))


if __name__ == "__main__":
    main()
