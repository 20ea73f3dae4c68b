"""Time and memory of EAP-IG against the model's own forward and backward passes.

    python scripts/benchmarks/attribution.py [--repeats 3] [--threads 2]

GPT-2-small shape with random weights, 5 steps. The floor is what no implementation can beat with
the same steps: a plain Hugging Face model with SDPA attention and frozen weights, logits only where
the metric reads them, `steps x (forward + backward) + 2 forwards`. The sides run alternately in one
process, so that a noisy machine slows both. One JSON line a shape.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable

import psutil
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from circuits.attribution import method
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from tasks.pairs import PairBatch, PairSet, PromptPair

SHAPES = ((2, 128), (1, 1024))
STEPS = 5


def pairs(n: int, length: int) -> PairBatch:
    """Random prompts that differ in a tenth of their tokens, from the first third on."""
    draw = torch.Generator().manual_seed(0)
    made = []
    for _ in range(n):
        clean = torch.randint(50_000, (length,), generator=draw).tolist()
        corrupted = list(clean)
        start, end = length // 3, length // 3 + max(1, length // 10)
        corrupted[start:end] = torch.randint(50_000, (end - start,), generator=draw).tolist()
        made.append(PromptPair(tuple(clean), tuple(corrupted), ((1,),), ((2,),)))
    return next(PairSet(tuple(made), metric="logit-difference").batches(n))


def floor(model: HookedModel, batch: PairBatch) -> None:
    """Forward and backward passes alone."""
    metric = METRICS["logit-difference"]
    with torch.no_grad():
        model.logits(batch.clean, batch)
        model.logits(batch.corrupted, batch)
    for _ in range(STEPS):
        leaf = model.hf.get_input_embeddings()(batch.clean).detach().requires_grad_()
        hooks = Hooks()
        hooks.before(model.view.layers[0].block, lambda _, leaf=leaf: leaf)
        torch.autograd.grad(metric(model.logits(batch.clean, batch, hooks), batch).sum(), leaf)


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and the rise of resident memory above the start in bytes (sampled)."""
    process, stop, peak = psutil.Process(), threading.Event(), [0]
    start = process.memory_info().rss

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    return seconds, peak[0] - start


def main() -> None:
    """Print one JSON line for each shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = HookedModel(GPT2LMHeadModel(GPT2Config()), None, "GPT-2-small shape, random weights")
    weights = sum(p.numel() * p.element_size() for p in model.hf.parameters())
    metric, chosen = METRICS["logit-difference"], method("eap-ig", steps=STEPS)
    for n, length in SHAPES:
        batch = pairs(n, length)
        sides: dict[str, Callable[[], object]] = {
            "floor": lambda batch=batch: floor(model, batch),
            "engine": lambda batch=batch: chosen.scores(model, batch, metric),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for repeat in range(arguments.repeats + 1):
            for name, side in sides.items():
                figures = measured(side)
                if repeat:  # the first round warms up
                    found[name].append(figures)
        seconds = {
            name: statistics.median(f[0] for f in figures) for name, figures in found.items()
        }
        memory = {name: max(f[1] for f in figures) + weights for name, figures in found.items()}
        ratios = [e[0] / f[0] for e, f in zip(found["engine"], found["floor"], strict=True)]
        print(
            json.dumps(
                {
                    "shape": f"{n} x {length}",
                    "steps": STEPS,
                    "threads": arguments.threads,
                    "seconds": {name: round(value, 3) for name, value in seconds.items()},
                    "peak_gigabytes": {name: round(v / 2**30, 2) for name, v in memory.items()},
                    "time_ratio": round(statistics.median(ratios), 3),
                    "memory_ratio": round(memory["engine"] / memory["floor"], 3),
                }
            )
        )


if __name__ == "__main__":
    main()
