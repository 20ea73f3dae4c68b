"""What method `exact` costs, side by side from the reader's layer on, beside a run for each edge.

    python scripts/benchmarks/exact.py [--model smollm2-135m] [--task ioi] [--n 8] [--share 0.01]

Both sides on one batch, on a share of the passes that `exact` would make, taken evenly over all
depths; times are for all edges, in proportion. `apart`: how far effects are from those of the runs
for each edge, of the largest effect, over the edges that both sides cut. Processor seconds of one
thread, the two sides in turn; one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

import tasks
from circuits.attribution.single_edges import edges_together, single_edge_effects
from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.metrics import metric_for
from circuits.models import HookedModel

ALONE = 4  # edges of each pass that are run by themselves


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--share", type=float, default=0.01, help="of the passes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = HookedModel.from_pretrained(options.model, device="cpu")
    pairs = tasks.load(options.task).pairs(model.tokenizer, n=options.n, split="test")
    metric, layout = metric_for(pairs, None), model.layout
    batch = next(pairs.batches(options.n)).to(model.device)
    edges = [(row, column) for row, column in layout.mask.nonzero().tolist()]
    together, runner = BatchedCircuitRunner(model, batch, alike=False), CircuitRunner(model, batch)
    clean = metric(runner.clean, batch, runner.clean)
    passes = list(edges_together(together, edges))
    step = max(1, round(1 / options.share))
    seconds, counts, largest_drop, largest_gap = [0.0, 0.0], [0, 0], 0.0, 0.0
    for indices in passes[step // 2 :: step]:
        cut_edges = [edges[index] for index in indices]
        start = time.process_time()
        effects = torch.zeros(len(batch), len(cut_edges))
        for columns, values in single_edge_effects(together, metric, cut_edges):
            effects[:, columns] = values
        middle = time.process_time()
        sampled = range(0, len(cut_edges), max(1, len(cut_edges) // ALONE))
        for edge_index in sampled:
            kept_edges = layout.mask.clone()
            kept_edges[cut_edges[edge_index]] = False
            drop = clean - metric(runner.logits(Circuit(layout, kept_edges)), batch, runner.clean)
            largest_drop = max(largest_drop, float(drop.abs().max()))
            largest_gap = max(largest_gap, float((drop - effects[:, edge_index]).abs().max()))
        seconds[0] += middle - start
        seconds[1] += time.process_time() - middle
        counts[0] += len(cut_edges)
        counts[1] += len(sampled)
    full_seconds = [
        layout.n_edges * elapsed / n for elapsed, n in zip(seconds, counts, strict=True)
    ]
    record = {
        "model": options.model,
        "pairs": options.n,
        "tokens": batch.clean.shape[1],
        "edges": layout.n_edges,
        "side_by_side": together.width,
        "edges_cut": counts,
        "minutes": {
            "side by side": round(full_seconds[0] / 60, 1),
            "each": round(full_seconds[1] / 60, 1),
        },
        "ratio": round(full_seconds[1] / full_seconds[0], 2),
        "apart": largest_gap / largest_drop,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
