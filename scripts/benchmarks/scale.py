"""Two workers of one thread against one, their start-up, and what the driver's memory does.

    python scripts/benchmarks/scale.py [--model smollm2-135m] [--task ioi] [--pairs 64]

The same pairs are scored (EAP-IG) by one worker and by two, in turns, and in this process with one
thread. `start` is the time from asking for workers to the first batch that each has done, loading
included. `peak_mb` is the driver's largest resident memory after scoring an eighth of the pairs,
and after scoring all, four times over, with sums alone kept. It wants as many quiet cores as there
are workers, and one for the driver. One JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

import tasks
from circuits.attribution import attribute
from circuits.graph import EdgeScores
from circuits.models import HookedModel
from circuits.options.engine import RayEngine
from circuits.options.run import RunOptions
from circuits.runtime.cluster.pool import close_engine
from tasks.pairs import PairSet


def scored(
    model: HookedModel, pairs: PairSet, engine: RayEngine | None, steps: int, batch: int
) -> EdgeScores:
    """The scores, without each example's."""
    options = RunOptions(batch, engine=engine)
    return attribute(model, pairs, "eap-ig", steps=steps, options=options, per_example=False)


@dataclass(frozen=True)
class Run:
    """Seconds of start-up and of scoring, and the mean scores."""

    start: float
    scoring: float
    mean: Tensor


def seconds(model: HookedModel, pairs: PairSet, workers: int, options: argparse.Namespace) -> Run:
    """Start-up and scoring with so many workers, and the scores."""
    engine = RayEngine(workers=workers)
    start = time.perf_counter()
    scored(model, pairs[: workers * options.batch], engine, 1, options.batch)
    ready = time.perf_counter()
    scores = scored(model, pairs, engine, options.steps, options.batch)
    end = time.perf_counter()
    close_engine(engine)
    return Run(ready - start, end - ready, scores.matrix)


def peak() -> float:
    """Largest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def driver_memory(model: HookedModel, pairs: PairSet, options: argparse.Namespace) -> list[float]:
    """After few examples, and after many."""
    engine, peaks = RayEngine(workers=options.workers), []
    for subset, times in ((pairs[: max(1, len(pairs) // 8)], 1), (pairs, 4)):
        for _ in range(times):
            scored(model, subset, engine, 1, options.batch)
        peaks.append(round(peak(), 1))
    close_engine(engine)
    return peaks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = HookedModel.from_pretrained(options.model, device="cpu")
    pairs = tasks.load(options.task).pairs(model.tokenizer, n=options.pairs, split="train")
    memory = driver_memory(model, pairs, options)
    start = time.perf_counter()
    local_scores = scored(model, pairs, None, options.steps, options.batch)
    in_process = time.perf_counter() - start
    sides: dict[int, list[Run]] = {1: [], options.workers: []}
    for _ in range(options.repeats):
        for workers, runs in sides.items():
            runs.append(seconds(model, pairs, workers, options))
    medians = {
        workers: {
            "start": round(statistics.median(run.start for run in runs), 2),
            "scoring": round(statistics.median(run.scoring for run in runs), 2),
        }
        for workers, runs in sides.items()
    }
    ratios = [
        single.scoring / parallel.scoring
        for single, parallel in zip(sides[1], sides[options.workers], strict=True)
    ]
    record = {
        "model": options.model,
        "pairs": len(pairs),
        "cores": os.cpu_count(),
        "in_process": round(in_process, 2),
        "workers": medians,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "peak_mb": memory,
        "same_bytes": all(
            torch.equal(run.mean, local_scores.matrix) for runs in sides.values() for run in runs
        ),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
