"""Memory and time of comparing checkpoints whose scores of single examples do not fit in memory.

    python scripts/benchmarks/big_scores.py [--checkpoints 5] [--examples 200] [--layers 32]
        [--heads 32] [--kv-heads 8] [--samples 1.0] [--resamples 1000] [--folder /tmp]

The layout is Llama-3.1-8B's: 1,057 sources x 1,569 readers, 6.6 MB an example. Scores are random,
with heavy tails, and a tenth of the edges move from checkpoint to checkpoint. They are written as
`circuits discover` writes them, to a temporary folder that goes at the end. Each side runs in a
process of its own:

- `files`: `compare` of the files.
- `memory`: all possible edges are read into memory first; then the same.
- `resampling`: the files are read and the mean scores of all samples are formed; nothing else is.

One JSON line a side: CPU seconds, peak resident memory, and, for `memory`, whether comparison.json
has the same bytes. `--samples` takes a share of the random samples of `agreement`, and
`--resamples` so many of the bootstrap, for machines that have no hour.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch

from circuits.comparison import agreement as module
from circuits.comparison import compare
from circuits.graph import EdgeScores, Layout
from circuits.graph.edge_values import EdgeValues
from circuits.graph.provenance import DataRecord, Provenance
from circuits.runtime.example_rows import ExampleRows
from circuits.statistics import half_weights, random_halves, resample_weights, subset_weights

COUNTS = ("SUBSETS", "SPLITS", "GAP_SUBSETS", "GAP_SPLITS", "PERMUTATIONS")
SIDES = ("files", "memory", "resampling")


def write(folder: Path, layout: Layout, number: int, examples: int) -> None:
    """The scores of one checkpoint, with no more than one example in memory."""
    base = torch.randn(layout.shape, generator=torch.Generator().manual_seed(0)).pow_(3)
    draw = torch.Generator().manual_seed(1 + number)
    moved_edges = torch.rand(layout.shape, generator=draw) < 0.1
    base += number * moved_edges * torch.randn(layout.shape, generator=draw)
    base *= layout.mask
    rows = ExampleRows(folder / f"{number}.rows", examples, layout.shape)
    rows.open(torch.zeros(examples, dtype=torch.bool))
    total = torch.zeros(layout.shape, dtype=torch.float64)
    for example in range(examples):
        row = base * (1 + torch.randn(layout.shape, generator=draw))
        total += row
        rows.put(torch.tensor([example]), row[None])
    data = DataRecord(task="none", n=examples, split="test", fingerprint="none")
    mean = (total / examples).float()
    scores = EdgeScores(mean, layout, "eap-ig", Provenance(data=data), rows.first(examples))
    scores.save(folder, str(number))
    rows.close(remove=True)


def in_memory(scores: EdgeScores) -> EdgeValues:
    """All values of the possible edges, read at once."""
    assert scores.per_example is not None
    values = EdgeValues(scores.layout, scores.per_example)
    all_values = torch.empty(len(values), len(values.flat_indices))
    for edges, block in values.blocks():
        all_values[:, edges] = block
    return EdgeValues(scores.layout, all_values)


def resampled(values: list[EdgeValues], n_resamples: int) -> None:
    """The mean scores of all samples that `compare` takes, as many at a time as it does."""
    n = len(values[0])
    equal = torch.full((1, n), 1 / n, dtype=torch.float64)
    subsets = subset_weights(n, module.SUBSETS, seed=0)
    halves = random_halves(n, module.SPLITS, seed=0)
    gaps = module.GAP_SUBSETS * module.GAP_SPLITS
    gap_weights = subset_weights(n, gaps, share=module.GAP_SHARE, seed=0)
    gap_halves = random_halves(n, gaps, seed=0)
    swap_weights = subset_weights(n, module.PERMUTATIONS, seed=0)
    weight_sets = [
        *([equal], [subsets], [subsets], half_weights(equal.expand(len(halves), -1), halves)),
        *(half_weights(gap_weights, gap_halves), [swap_weights, swap_weights]),
        [resample_weights(n, n_resamples, seed=0)],
    ]
    for weights in weight_sets:
        block_size = max(
            1, module._MEANS // (len(values[0].flat_indices) * len(values) * len(weights))
        )
        for block in torch.arange(len(weights[0])).split(block_size):
            for edge_values in values:
                edge_values.resampled(*(tensor[block] for tensor in weights))


def run(side: str, folder: Path, n_resamples: int) -> dict[str, float | str]:
    """One side, in this process."""
    files = sorted(folder.glob("*.safetensors"))
    start = time.process_time()
    scores = [EdgeScores.load(file) for file in files]
    if side == "memory":
        mock.patch.object(EdgeValues, "of", staticmethod(in_memory)).start()
    if side == "resampling":
        values = [EdgeValues.of(checkpoint) for checkpoint in scores]
        for edge_values in values:
            _ = edge_values.summary
        resampled(values, n_resamples)
    else:
        compare(scores, n_resamples=n_resamples).save(folder / f"{side}.json")
    return {
        "side": side,
        "cpu_s": round(time.process_time() - start, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Write the scores, run the sides, print what they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--samples", type=float, default=1.0)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in COUNTS:
        setattr(module, name, max(2, round(getattr(module, name) * arguments.samples)))
    if arguments.side is not None:
        print(json.dumps(run(arguments.side, arguments.folder, arguments.resamples)), flush=True)
        return
    layout = Layout(arguments.layers, arguments.heads, arguments.kv_heads)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        start = time.process_time()
        for number in range(arguments.checkpoints):
            write(folder, layout, number, arguments.examples)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        timing = {"write_s": round(time.process_time() - start, 1)}
        print(json.dumps({"layout": layout.shape, "gib": round(size / 2**30, 2), **timing}))
        for side in arguments.sides:
            settings = ["--samples", arguments.samples, "--resamples", arguments.resamples]
            command = [sys.executable, __file__, "--side", side, "--folder", folder, *settings]
            subprocess.run([str(argument) for argument in command], check=True)
        files = [folder / f"{side}.json" for side in ("files", "memory")]
        if all(file.exists() for file in files):
            from_files, from_memory = (file.read_bytes() for file in files)
            print(json.dumps({"same_bytes": from_files == from_memory}))


if __name__ == "__main__":
    main()
