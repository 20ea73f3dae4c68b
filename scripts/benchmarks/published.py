"""Time of EAP-IG on the library that its authors' code is written for, TransformerLens 2.

    python -m venv tl2
    tl2/bin/pip install torch 'transformer-lens<3' 'datasets<3.6' 'pyarrow<18'
    tl2/bin/python scripts/benchmarks/published.py [--repeats 2] [--threads 2]

It needs that environment of its own and nothing of `circuits`. The algorithm is that of
tests/oracles/split_hooks.py, here with the hooks of `HookedTransformer`; weights have gradients, as
the authors' code leaves them, or are frozen. GPT-2-small shape, random weights, 2 prompts of 128
tokens, 5 steps. Beside it, in turn, the floor of scripts/benchmarks/attribution.py: 5 forward and
backward passes and 2 forwards of a plain Hugging Face model. One JSON line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "oracles"))
SplitHooks: Any = importlib.import_module("split_hooks").SplitHooks

PROMPTS, LENGTH, STEPS = 2, 128, 5


def metric(logits: Tensor) -> Tensor:
    """A logit difference at the last position."""
    return (logits[:, -1, 1] - logits[:, -1, 2]).sum()


def floor(model: GPT2LMHeadModel, clean: Tensor, corrupted: Tensor) -> None:
    """Forward and backward passes alone, with frozen weights."""

    def value(embedding: Tensor) -> Tensor:
        stream = model.transformer(inputs_embeds=embedding, use_cache=False).last_hidden_state
        return metric(model.lm_head(stream[:, -1:]))

    embed = model.get_input_embeddings()
    with torch.no_grad():
        value(embed(clean))
        value(embed(corrupted))
    for _ in range(STEPS):
        leaf = embed(clean).detach().requires_grad_()
        torch.autograd.grad(value(leaf), leaf)


def published(clean: Tensor, corrupted: Tensor, *, frozen: bool) -> Callable[[], object]:
    """All edges' scores by hooks on a `HookedTransformer`."""
    library: Any = importlib.import_module("transformer_lens")
    config = library.HookedTransformerConfig(
        n_layers=12,
        d_model=768,
        n_ctx=1024,
        d_head=64,
        n_heads=12,
        d_mlp=3072,
        d_vocab=50257,
        act_fn="gelu_new",
        normalization_type="LN",
        device="cpu",
        seed=0,
    )
    model = library.HookedTransformer(config)
    model.set_use_hook_mlp_in(True)
    oracle = SplitHooks(model, frozen=frozen)
    oracle.entry, oracle.port = "blocks.0.hook_resid_pre", "blocks.{}.hook_{}_input"
    oracle.mlp, oracle.final = "blocks.{}.hook_mlp_in", "blocks.11.hook_resid_post"
    nodes, weights = [(step + 0.5) / STEPS for step in range(STEPS)], [1 / STEPS] * STEPS
    return partial(oracle.scores, clean, corrupted, metric, nodes, weights)


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    start = time.perf_counter()
    work()
    return round(time.perf_counter() - start, 2)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    clean = torch.randint(50_000, (PROMPTS, LENGTH))
    corrupted = clean.clone()
    corrupted[:, : LENGTH // 10] = torch.randint(50_000, (PROMPTS, LENGTH // 10))
    plain = GPT2LMHeadModel(GPT2Config()).requires_grad_(False)
    plain.train(False)
    works: dict[str, Callable[[], object]] = {
        "floor": partial(floor, plain, clean, corrupted),
        "published": published(clean, corrupted, frozen=False),
        "frozen": published(clean, corrupted, frozen=True),
    }
    works["floor"]()
    durations: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(arguments.repeats):
        for name, work in works.items():
            durations[name].append(seconds(work))
    print(json.dumps({"shape": f"{PROMPTS} x {LENGTH}", "steps": STEPS, "seconds": durations}))


if __name__ == "__main__":
    main()
