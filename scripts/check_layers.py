"""Do the intervals of the critical layers' criteria hold? Coverage, the truth known.

    python scripts/check_layers.py
    python scripts/check_layers.py --scores runs/quickstart/scores/base.safetensors \\
        runs/quickstart/scores/step-200.safetensors

A criterion's value is a mean over documents (attention-kl, hidden-state) or a mean of absolute
means (entropy, edges), which noise lifts: its estimand is its own mean over samples of n documents,
as in `check_statistics.py`; edge scores are those of `populations.py`. Documents' KL and relative
changes are log-normal (sigma .5), changes of entropy t-distributed with 5 degrees of freedom: 6
layers of 6 heads, half of whose entropies change.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from check_statistics import COUNTS, coverage
from populations import Population, real, simulated, unchanged

from circuits.graph import EdgeScores, Provenance
from circuits.graph.provenance import DataRecord
from circuits.importance import edge_change
from circuits.model_diff.diff import layer_changes
from circuits.model_diff.documents import DocumentDiffs
from circuits.statistics import generator
from circuits.statistics.estimate import Estimates

LAYERS, HEADS = 6, 6
Sample = Callable[[int, int], dict[str, Estimates]]


def documents(n: int, seed: int) -> dict[str, Estimates]:
    """The criteria of a diff of models, of n documents."""
    draw = generator(seed)
    scale = torch.linspace(0.5, 2, LAYERS)
    kl = scale[:, None] * torch.randn(n, LAYERS, HEADS, generator=draw).div(2).exp()
    update = scale * torch.randn(n, LAYERS, generator=draw).div(2).exp()
    normal = torch.randn(6, n, LAYERS, HEADS, generator=draw)
    shift = torch.arange(HEADS) % 2 * 0.3 * scale[:, None]
    entropy = shift + normal[0] / (normal[1:].square().mean(dim=0)).sqrt()
    zeros = torch.zeros_like(update)
    entropy_base = torch.zeros_like(entropy)
    diffs = DocumentDiffs(
        kl,
        entropy,
        entropy_base,
        cosine=zeros,
        activation=zeros,
        activation_base=zeros,
        stream_change=zeros,
        update_change=update,
        head_masses={},
        neurons=None,
    )
    changes = layer_changes(diffs, n_resamples=1, seed=0)
    return {name: change.values for name, change in changes.items()}


def edges_of(population: Population) -> Sample:
    """The criterion of edges, of n examples of a population."""
    layout = population.layout

    def sample(n: int, seed: int) -> dict[str, Estimates]:
        checkpoints = []
        for values in population.sample(n, generator(seed)):
            scores = torch.zeros(n, *layout.shape)
            scores[:, layout.mask] = values.float()
            data = DataRecord(task="simulated", split="all", n=n, fingerprint="simulated")
            provenance = Provenance(data=data)
            checkpoints.append(
                EdgeScores(scores.mean(dim=0), layout, "simulated", provenance, scores)
            )
        return {
            "edges": edge_change(checkpoints[1], checkpoints[0], n_resamples=1, seed=seed).values
        }

    return sample


def main() -> None:
    """Read the options, print a row a criterion."""
    parser = argparse.ArgumentParser(description="Coverage of the critical layers' intervals.")
    parser.add_argument("--scores", nargs=2, metavar="FILE", help="two checkpoints' score files")
    parser.add_argument("--repeats", type=int, default=300, help="samples of each population")
    parser.add_argument("--examples", type=int, nargs="+", default=COUNTS)
    options = parser.parse_args()
    symmetric_population, skewed_population = (simulated(name, skew, LAYERS) for name, skew in
                         (("symmetric", 0.0), ("skewed", 0.4)))  # fmt: skip
    samples: dict[str, Sample] = {
        "documents": documents,
        "symmetric": edges_of(symmetric_population),
        "skewed": edges_of(skewed_population),
        "symmetric, no change": edges_of(unchanged(symmetric_population)),
    }
    if options.scores:
        samples = {"real scores": edges_of(real(options.scores))}
    for name, sample in samples.items():
        for n in options.examples:
            covered = coverage(
                (
                    {
                        key: (estimate.low, estimate.high, estimate.value)
                        for key, estimate in sample(n, seed).items()
                    }
                    for seed in range(options.repeats)
                ),
                of_its_own_mean=True,
            )
            for key, (share, width) in covered.items():
                print(f"{name:22}{key:14} n = {n:<4} {share:.3f} ({width:.2f})", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
