"""Time of ACDC against running the whole model again for every edge.

    python scripts/benchmarks/acdc.py [--pairs 16] [--threads 2] [--sample 60]

Whole searches on the embedded model and its task, at three thresholds, and single trials on the
shape of GPT-2 small with random weights. Beside the search stand

- trials: one `Executor` run from the embedding on for each of the search's own trials;
- edges: such a run for each edge of the model, which is what a search costs that skips nothing;
- forwards: a plain forward pass, without a hook, for each edge: re-running the model in the
  cheapest way there is.

These are timed on a sample of the search's masks, spread over it and run alternately with plain
passes, and scaled to their numbers. One JSON line a threshold, then one for the shape.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial

import torch
from attribution import seconds
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import tasks
from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.search import AcdcConfig, Search, acdc
from tasks.pairs import PairBatch, PairSet, PromptPair

THRESHOLDS = (0.0, 0.02, 0.2)
LENGTH = 20  # tokens a prompt, on the shape of GPT-2 small


def masks(search: Search, sample: int) -> list[Tensor]:
    """What some of the search's trials ran, spread evenly over it."""
    layout = search.circuit.layout
    mask = layout.mask.clone()
    indices = set(torch.linspace(0, len(search.history) - 1, sample).long().tolist())
    trials = []
    for index, step in enumerate(search.history):
        trial = mask.clone()
        trial[layout.edge(step.name)] = False
        if index in indices:
            trials.append(trial)
        if not step.kept:
            mask = trial
    return trials


def runs(model: HookedModel, batch: PairBatch, trials: list[Tensor]) -> tuple[float, float]:
    """Mean seconds of an executor run and of a plain pass, alternately."""
    executor = CircuitRunner(model, batch)
    circuit_time, plain_time = 0.0, 0.0
    with torch.no_grad():
        for trial in trials:
            circuit = Circuit(model.layout, trial)
            circuit_time += seconds(partial(executor.logits, circuit))
            plain_time += seconds(lambda: model.logits(batch.clean, batch))
    return circuit_time / len(trials), plain_time / len(trials)


def searches(n: int, sample: int) -> None:
    """Whole searches on the embedded model."""
    model = HookedModel.from_pretrained("newsroom-gpt2", device="cpu")
    pairs = tasks.load("newsroom").pairs(model.tokenizer, n, split="validation")
    for threshold in THRESHOLDS:
        start = time.perf_counter()
        search = acdc(
            model,
            pairs,
            AcdcConfig(threshold, relative_to="current"),
            options=RunOptions(batch_size=len(pairs)),
        )
        duration = time.perf_counter() - start
        batch = pairs.batch(list(range(len(pairs))))
        executor, plain = runs(model, batch, masks(search, sample))
        edges = model.layout.n_edges
        sides = {
            "search": duration,
            "trials": executor * search.cost.decisions,
            "edges": executor * edges,
            "forwards": plain * edges,
        }
        print(
            json.dumps(
                {
                    "model": "newsroom-gpt2",
                    "pairs": n,
                    "tokens": batch.clean.shape[1],
                    "threshold": threshold,
                    "edges": edges,
                    "kept": len(search.circuit),
                    "cost": search.cost.model_dump(),
                    "layers_saved": round(search.cost.saving, 2),
                    "seconds": {side: round(value, 2) for side, value in sides.items()},
                    "times_faster": {
                        side: round(value / duration, 2) for side, value in sides.items()
                    },
                }
            ),
            flush=True,
        )


def single_trials(n: int, sample: int) -> None:
    """Trials at readers of every depth, a tenth of the edges above them left."""
    torch.manual_seed(0)
    model = HookedModel(GPT2LMHeadModel(GPT2Config()), None, "GPT-2-small shape, random weights")
    layout, draw = model.layout, torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(n):
        clean = torch.randint(50_000, (LENGTH,), generator=draw).tolist()
        corrupted = [*clean]
        corrupted[LENGTH // 3] = 50_000
        pairs.append(PromptPair(tuple(clean), tuple(corrupted), ((1,),), ((2,),)))
    batch = PairSet(tuple(pairs)).batch(list(range(n)))
    stacked = BatchedCircuitRunner(model, batch)
    width, duration, trials = 4, 0.0, []
    # Readers in proportion to their edges, so that the mean is over a search's trials.
    entries = layout.mask.T.nonzero()
    for index in torch.linspace(0, len(entries) - 1, max(1, sample // width)).long().tolist():
        column = int(entries[index, 0])
        mask = layout.mask & (torch.rand(layout.shape, generator=draw) < 0.1)
        mask[:, : column + 1] = layout.mask[:, : column + 1]
        rows = torch.randperm(int(layout.mask[:, column].sum()), generator=draw)[:width]
        group = mask.repeat(len(rows), 1, 1)
        group[torch.arange(len(rows)), rows, column] = False
        duration += seconds(partial(stacked.logits, group))
        trials += list(group)
    executor, plain = runs(model, batch, trials)
    trial = duration / len(trials)
    print(
        json.dumps(
            {
                "model": model.name,
                "pairs": n,
                "tokens": LENGTH,
                "side_by_side": width,
                "trials": len(trials),
                "milliseconds": {
                    "trial": round(1e3 * trial, 1),
                    "executor": round(1e3 * executor, 1),
                    "forward": round(1e3 * plain, 1),
                },
                "executor_over_trial": round(executor / trial, 2),
                "forward_over_trial": round(plain / trial, 2),
            }
        ),
        flush=True,
    )


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sample", type=int, default=60, help="runs that a side is timed on")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    searches(arguments.pairs, arguments.sample)
    single_trials(4, arguments.sample)


if __name__ == "__main__":
    main()
