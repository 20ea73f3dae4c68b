"""Time of a layer x position patching sweep against one whole forward pass a site.

    python scripts/benchmarks/patching.py [--length 32] [--pairs 1] [--repeats 3] [--threads 2]

GPT-2-small shape with random weights, residual stream. The naive side runs the same plain model
with one hook, SDPA attention, logits only where the metric reads them. The prompts differ from the
first token on, so that no site is left out for being the same in both. The sides run alternately
in one process, so that a noisy machine slows both. One JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from circuits.intervention.patching import patch
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from tasks.pairs import PairSet, PromptPair

METRIC = METRICS["logit-difference"]


def pairs(n: int, length: int) -> PairSet:
    """Random prompts that differ everywhere."""
    draw = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(25_000, (2, n, length), generator=draw)
    corrupted += 25_000
    return PairSet(
        tuple(
            PromptPair(tuple(a), tuple(b), ((1,),), ((2,),))
            for a, b in zip(clean.tolist(), corrupted.tolist(), strict=True)
        ),
        metric=METRIC.name,
    )


@torch.no_grad()
def naive(model: HookedModel, prompts: PairSet) -> torch.Tensor:
    """One whole forward pass a layer and position: (example, layer, position)."""
    batch = prompts.batch(list(range(len(prompts))))
    blocks = [layer.block for layer in model.view.layers]
    streams: list[torch.Tensor] = []
    hooks = Hooks()
    for block in blocks:
        hooks.before(block, streams.append)
    model.logits(batch.clean, batch, hooks)
    values = torch.empty(len(prompts), len(blocks), batch.clean.shape[1])
    for layer, block in enumerate(blocks):
        for position in range(batch.clean.shape[1]):

            def edit(x: torch.Tensor, layer: int = layer, at: int = position) -> torch.Tensor:
                new = x.clone()
                new[:, at] = streams[layer][:, at]
                return new

            hooks = Hooks()
            hooks.before(block, edit)
            values[:, layer, position] = METRIC(model.logits(batch.corrupted, batch, hooks), batch)
    return values


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = HookedModel(GPT2LMHeadModel(GPT2Config()), None, "GPT-2-small shape, random weights")
    prompts = pairs(arguments.pairs, arguments.length)
    seconds: dict[str, list[float]] = {"naive": [], "sweep": []}
    error = 0.0
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        expected = naive(model, prompts)
        middle = time.perf_counter()
        values = patch(model, prompts).values[METRIC.name]
        seconds["naive"].append(middle - start)
        seconds["sweep"].append(time.perf_counter() - middle)
        error = max(error, float((values - expected).abs().max() / expected.abs().max()))
    ratios = [a / b for a, b in zip(seconds["sweep"], seconds["naive"], strict=True)]
    print(
        json.dumps(
            {
                "shape": f"{arguments.pairs} x {arguments.length}",
                "sites": 12 * arguments.length,
                "threads": arguments.threads,
                "seconds": {side: round(statistics.median(seconds[side]), 2) for side in seconds},
                "ratio": round(statistics.median(ratios), 3),
                "ratios": [round(ratio, 3) for ratio in ratios],
                "largest_relative_error": error,
                "load_average": round(os.getloadavg()[0], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
