"""What ACDC and head pruning cost on a real model.

    python scripts/benchmarks/acdc_real.py [--model smollm2-135m] [--pairs 50] [--size 700]

A whole search by ACDC takes hours there, so that it is estimated: the edges that it would keep are
taken from a circuit by EAP-IG (`--size` edges, signed), every reader later than the one under trial
has these, half of its own others are gone, and trials are timed at ten readers, which stand for a
tenth of all trials each. Readers of nodes that nothing reads have no trials. Head pruning is run
as a whole. Processor seconds of one thread; one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise

import torch
from torch import Tensor

import circuits
import tasks
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.options.search import HeadPruningConfig
from circuits.search import prune_heads
from circuits.search.trials import Trials
from tasks.pairs import PairSet

STRATA = 10


def before_trial(model: HookedModel, circuit: Tensor, column: int, draw: torch.Generator) -> Tensor:
    """The edges left when half of a reader's own were tried, and none of the earlier readers'."""
    layout = model.layout
    mask = layout.mask.clone()
    mask[:, column + 1 :] = circuit[:, column + 1 :]
    mask[:, column] &= (torch.rand(layout.shape[0], generator=draw) < 0.5) | circuit[:, column]
    return mask


def searched(model: HookedModel, pairs: PairSet, circuit: Tensor) -> dict[str, object]:
    """Seconds of a trial, and of a whole search."""
    layout, draw = model.layout, torch.Generator().manual_seed(0)
    trials = Trials(model, pairs, circuits.metrics.metric_for(pairs, "kl-divergence"))
    is_read = circuit.any(dim=1)
    alive = torch.tensor([not rows or bool(is_read[list(rows)].any()) for rows in layout.feeds])
    counts = layout.mask.sum(dim=0) * alive
    shares = counts.cumsum(dim=0) / counts.sum()
    total, seconds = 0.0, []
    for stratum in range(STRATA):
        column = int((shares >= (stratum + 0.5) / STRATA).nonzero()[0])
        mask = before_trial(model, circuit, column, draw)
        open_edges = (mask[:, column] & ~circuit[:, column]).nonzero().flatten().tolist()
        marks = [time.process_time()]
        trials.settle(mask)
        for turn in range(2):  # what all trials of a reader share is made in the first
            kept_edges = mask.repeat(trials.width, 1, 1)
            for copy, row in enumerate(open_edges[turn * trials.width :][: trials.width]):
                kept_edges[copy, row, column] = False
            marks.append(time.process_time())
            trials(list(kept_edges))
        marks.append(time.process_time())
        settling, first, steady = (after - before for before, after in pairwise(marks))
        seconds.append(round(steady / trials.width, 3))
        total += steady / trials.width * float(counts.sum()) / STRATA
        total += (settling + first - steady) * int((counts > 0).sum()) / STRATA
    return {
        "edges": layout.n_edges,
        "trials": int(counts.sum()),
        "side_by_side": trials.width,
        "trial_seconds": seconds,
        "hours": round(total / 3600, 2),
    }


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--size", type=int, default=700)
    parser.add_argument("--corruption", default="swap")
    parser.add_argument("--no-heads", action="store_true", help="leave head pruning out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = HookedModel.from_pretrained(options.model, device="cpu")
    task = tasks.load("ioi", corruption=options.corruption)
    scores = circuits.attribute(
        model, task.pairs(model.tokenizer, n=16, split="validation"), "eap-ig", steps=5
    )
    circuit = circuits.select(scores, size=options.size, ranking="signed").mask
    pairs = task.pairs(model.tokenizer, n=options.pairs, split="train")
    record: dict[str, object] = {"model": options.model, "pairs": options.pairs}
    record["acdc"] = searched(model, pairs, circuit)
    if not options.no_heads:
        start = time.process_time()
        pruning = prune_heads(model, pairs, HeadPruningConfig(0.02, "zero"), options=RunOptions())
        record["head_pruning"] = {
            "heads": len(pruning.history),
            "kept": len(pruning.heads),
            "minutes": round((time.process_time() - start) / 60, 1),
        }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
