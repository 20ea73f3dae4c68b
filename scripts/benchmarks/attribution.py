"""Time and memory of EAP-IG against the model's own forward and backward passes.

    python scripts/benchmarks/attribution.py [--repeats 3] [--threads 2]

GPT-2-small shape with random weights, 5 steps. The floor is what no implementation can beat with
the same steps: a plain Hugging Face model with SDPA attention and frozen weights, logits only where
the metric reads them, `steps x (forward + backward) + 2 forwards`. The sides run alternately in one
process, so that a noisy machine slows both; peak memory is of a fresh process a side. One JSON line
a shape.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

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


SIDES: dict[str, Callable[[HookedModel, PairBatch], object]] = {
    "floor": floor,
    "engine": lambda model, batch: method("eap-ig", steps=STEPS).scores(
        model, batch, METRICS["logit-difference"]
    ),
}


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def high_water() -> int:
    """Most resident KiB of this process. `ru_maxrss` would count the parent's before exec."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(next(x for x in status.read_text().splitlines() if x.startswith("VmHWM")).split()[1])


def peak_memory(side: str, shape: tuple[int, int], threads: int) -> float:
    """Peak resident gigabytes of a process that does one side once, weights and Python included."""
    command = [sys.executable, __file__, "--threads", str(threads), "--only", side]
    done = subprocess.run([*command, *map(str, shape)], check=True, capture_output=True, text=True)
    return int(done.stdout) / 2**20


def main() -> None:
    """Print one JSON line for each shape."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--only", nargs=3, metavar=("SIDE", "N", "LENGTH"), help="peak KiB of a side"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = HookedModel(GPT2LMHeadModel(GPT2Config()), None, "GPT-2-small shape, random weights")
    if arguments.only:
        side, n, length = arguments.only
        SIDES[side](model, pairs(int(n), int(length)))
        print(high_water())
        return
    for shape in SHAPES:
        batch = pairs(*shape)
        found: dict[str, list[float]] = {side: [] for side in SIDES}
        for repeat in range(arguments.repeats + 1):
            for side, work in SIDES.items():
                taken = seconds(partial(work, model, batch))
                if repeat:  # the first round warms up
                    found[side].append(taken)
        ratios = [e / f for e, f in zip(found["engine"], found["floor"], strict=True)]
        memory = {side: peak_memory(side, shape, arguments.threads) for side in SIDES}
        print(
            json.dumps(
                {
                    "shape": "{} x {}".format(*shape),
                    "steps": STEPS,
                    "threads": arguments.threads,
                    "seconds": {s: round(statistics.median(found[s]), 3) for s in SIDES},
                    "peak_gigabytes": {side: round(value, 2) for side, value in memory.items()},
                    "time_ratio": round(statistics.median(ratios), 3),
                    "memory_ratio": round(memory["engine"] / memory["floor"], 3),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
