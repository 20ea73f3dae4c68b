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
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = HookedModel.from_pretrained(options.model, device="cpu")
    pairs = tasks.load(options.task).pairs(
        model.tokenizer, options.n, split="validation", seed=0, n_ctx=model.n_ctx
    )
    batch = pairs.batch(list(range(options.n)))
    eap_scores, random_scores = (attribute(model, pairs, method) for method in ("eap", "random"))

    def plain() -> None:
        with torch.no_grad():
            model.logits(batch.clean, batch)

    plain()
    ends = [ratio(partial(CircuitRunner, model, batch), plain) for _ in range(3)]
    runner = CircuitRunner(model, batch)
    curves = {}
    orders: dict[str, tuple[EdgeScores, Ranking]] = {
        "absolute": (eap_scores, "absolute"),
        "signed": (eap_scores, "signed"),
        "random": (random_scores, "absolute"),
    }
    for name, (scores, ranking) in orders.items():
        n_edges = scores.layout.n_edges
        sizes = [max(1, int(fraction * n_edges)) for fraction in FRACTIONS]
        circuits = [select(scores, size=size, ranking=ranking) for size in sizes]
        ratios = [ratio(partial(runner.logits, circuit), plain) for circuit in circuits]
        curves[name] = {
            "whole": round(sum(ratios), 1),
            "each": [round(value, 2) for value in ratios],
        }
    print(
        json.dumps(
            {
                "model": options.model,
                "tokens": list(batch.clean.shape),
                "threads": options.threads,
                "clean and corrupted": round(statistics.median(ends), 2),
                "passes": curves,
            }
        )
    )


def ratio(work: Callable[[], object], plain: Callable[[], object]) -> float:
    """CPU time of some work over that of a plain pass just before it."""
    floor, duration = (seconds(side) for side in (plain, work))
    return duration / floor


def seconds(work: Callable[[], object]) -> float:
    """CPU time."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
