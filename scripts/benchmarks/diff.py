"""Time of a diff of two models against the forward passes that it contains.

    python scripts/benchmarks/diff.py [--documents 100] [--length 256] [--threads 2]

Two models of GPT-2-small shape with random weights. The floors are two plain forward passes of the
Hugging Face models over the same documents in the same batches, by SDPA (what the diff runs)
and by eager attention. Both leave the unembedding out, which makes them the strictest. The
sides take turns document batch by document batch in one process,
so that a noisy machine slows all of them; `cpu` counts processor seconds, which a busy machine
lengthens less than the clock's. The diff's side includes the random sequences of the
induction head types and all statistics at the end. One JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from circuits.model_diff import diff_models
from circuits.models import HookedModel
from tasks.pairs import PairSet, PromptPair


def documents(n: int, length: int) -> PairSet:
    """Random text; the corrupted side is never read."""
    draw = torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(n):
        clean = torch.randint(50_000, (length,), generator=draw).tolist()
        pairs.append(PromptPair(tuple(clean), (*clean[:-1], clean[-1] ^ 1), ((clean[0],),)))
    return PairSet(tuple(pairs))


def models() -> tuple[HookedModel, HookedModel]:
    """A base and a slightly moved copy of it."""
    torch.manual_seed(0)
    base = GPT2LMHeadModel(GPT2Config())
    perturbed = GPT2LMHeadModel(GPT2Config())
    perturbed.load_state_dict(base.state_dict())
    with torch.no_grad():
        for parameter in perturbed.parameters():
            parameter.add_(0.002 * torch.randn_like(parameter))
    return HookedModel(perturbed, None, "moved"), HookedModel(base, None, "base")


def forwards(both: tuple[HookedModel, HookedModel], pairs: PairSet, attention: str) -> None:
    """Plain forward passes of both models."""
    for model in both:
        model.hf.set_attn_implementation(attention)
    try:
        with torch.no_grad():
            for batch in pairs.batches(4):
                for model in both:
                    model.hf.base_model(input_ids=batch.clean, use_cache=False)
    finally:
        for model in both:
            model.hf.set_attn_implementation("sdpa")


def ratios(taken: dict[str, float]) -> dict[str, float]:
    """The diff's time against each floor's."""
    diff_time = taken["diff"]
    return {name: round(diff_time / value, 3) for name, value in taken.items() if name != "diff"}


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--parts", type=int, default=2, help="turns that the sides take")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model_pair = models()
    size = arguments.documents // arguments.parts
    sides: dict[str, Callable[[PairSet], object]] = {
        "diff": lambda part: diff_models(*model_pair, part).model_dump(mode="json"),
        "sdpa": lambda part: forwards(model_pair, part, "sdpa"),
        "eager": lambda part: forwards(model_pair, part, "eager"),
    }
    clock, cpu = dict.fromkeys(sides, 0.0), dict.fromkeys(sides, 0.0)
    pairs = documents(size * arguments.parts, arguments.length)
    for side in sides.values():  # warm up
        side(pairs[:2])
    for turn in range(arguments.parts):
        part = pairs[turn * size : (turn + 1) * size]
        for name, side in sides.items():
            start = time.perf_counter(), time.process_time()
            side(part)
            clock[name] += time.perf_counter() - start[0]
            cpu[name] += time.process_time() - start[1]
    print(
        json.dumps(
            {
                "documents": len(pairs),
                "tokens": arguments.length,
                "threads": arguments.threads,
                "parts": arguments.parts,
                "seconds": {name: round(value, 2) for name, value in clock.items()},
                "ratio": ratios(clock),
                "ratio_cpu": ratios(cpu),
            }
        )
    )


if __name__ == "__main__":
    main()
