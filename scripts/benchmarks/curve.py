"""Cost of a whole faithfulness curve on a real model, in plain forward passes' time.

    python scripts/benchmarks/curve.py [--model smollm2-135m] [--task ioi] [--n 16] [--threads 1]

Ten circuits, of MIB's sizes, for each of three orders: by absolute and by signed score (EAP), and a
random one. Each circuit's run is timed in turn with a plain forward pass of the same batch, in CPU
time; the clean and the corrupted run, which all orders share, are timed apart. One JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

import tasks
from circuits.attribution import attribute
from circuits.evaluation.faithfulness import FRACTIONS
from circuits.graph import EdgeScores, select
from circuits.intervention import CircuitRunner
from circuits.models import HookedModel
from circuits.options.choices import Ranking


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--n", type=int, default=16, help="pairs, which make one batch")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = HookedModel.from_pretrained(given.model, device="cpu")
    pairs = tasks.load(given.task).pairs(
        model.tokenizer, given.n, split="validation", seed=0, n_ctx=model.n_ctx
    )
    batch = pairs.batch(list(range(given.n)))
    scored, drawn = (attribute(model, pairs, method) for method in ("eap", "random"))

    def plain() -> None:
        with torch.no_grad():
            model.logits(batch.clean, batch)

    plain()
    ends = [ratio(partial(CircuitRunner, model, batch), plain) for _ in range(3)]
    runner = CircuitRunner(model, batch)
    found = {}
    orders: dict[str, tuple[EdgeScores, Ranking]] = {
        "absolute": (scored, "absolute"),
        "signed": (scored, "signed"),
        "random": (drawn, "absolute"),
    }
    for name, (scores, ranking) in orders.items():
        n_edges = scores.layout.n_edges
        sizes = [max(1, int(fraction * n_edges)) for fraction in FRACTIONS]
        circuits = [select(scores, size=size, ranking=ranking) for size in sizes]
        each = [ratio(partial(runner.logits, circuit), plain) for circuit in circuits]
        found[name] = {"whole": round(sum(each), 1), "each": [round(one, 2) for one in each]}
    print(
        json.dumps(
            {
                "model": given.model,
                "tokens": list(batch.clean.shape),
                "threads": given.threads,
                "clean and corrupted": round(statistics.median(ends), 2),
                "passes": found,
            }
        )
    )


def ratio(work: Callable[[], object], plain: Callable[[], object]) -> float:
    """CPU time of some work over that of a plain pass just before it."""
    floor, taken = (seconds(side) for side in (plain, work))
    return taken / floor


def seconds(work: Callable[[], object]) -> float:
    """CPU time."""
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
