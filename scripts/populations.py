"""Populations of scores whose truth is known: what `check_statistics.py` draws its samples from.

- simulated: an edge's score on an example is a product of two normals, as a score is a difference
  times a gradient (kurtosis 9; skewed where the two go together), and few of the means are large;
  edges of one source share a factor, and two checkpoints share half of each example's variance;
- real: the examples of two score files are the population, drawn with replacement. Tails,
  correlations between edges and between checkpoints are then what they are, and the population's
  means are the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.graph import EdgeScores, Layout
from circuits.statistics import generator

Pair = tuple[Float[Tensor, "n edge"], Float[Tensor, "n edge"]]


@dataclass(frozen=True)
class Population:
    """Two checkpoints whose true mean scores are known. sample: n examples of both.

    pool: the change of each example of a population that is finite, which `sample` draws from.
    """

    name: str
    layout: Layout
    before: Float[Tensor, " edge"]
    after: Float[Tensor, " edge"]
    sample: Callable[[int, torch.Generator], Pair]
    pool: Float[Tensor, "example edge"] | None = None


def simulated(name: str, together: float, size: int = 4, seed: int = 0) -> Population:
    """A model of as many layers as heads, `size`; another seed has other means.

    together: the correlation of the two factors of a score: 0 is symmetric, 1 a chi square.
    """
    layout = Layout(n_layers=size, n_heads=size, n_kv_heads=size)
    draw, edges = generator(seed), layout.n_edges
    rows = layout.mask.nonzero()[:, 0]
    before = 0.3 * torch.randn(edges, generator=draw, dtype=torch.float64) ** 3
    after = before + 0.2 * torch.randn(edges, generator=draw, dtype=torch.float64) ** 3
    spread = 0.3 + before.abs()

    def noise(n: int, draw: torch.Generator) -> Float[Tensor, "n edge"]:
        def factor() -> Float[Tensor, "n edge"]:
            own_noise = torch.randn(n, edges, generator=draw, dtype=torch.float64)
            source_noise = torch.randn(n, layout.shape[0], generator=draw, dtype=torch.float64)
            return 0.8 * own_noise + 0.6 * source_noise[:, rows]

        difference = factor()
        gradient = together * difference + math.sqrt(1 - together**2) * factor()
        return (difference * gradient - together) / math.sqrt(1 + together**2)

    def sample(n: int, draw: torch.Generator) -> Pair:
        shared_noise, *own_noises = (noise(n, draw) for _ in range(3))
        noise_before, noise_after = (
            spread * (shared_noise + own_noise) / math.sqrt(2) for own_noise in own_noises
        )
        return before + noise_before, after + noise_after

    return Population(name, layout, before, after, sample)


def real(files: Sequence[str]) -> Population:
    """The examples of two score files as the population."""
    scores = [EdgeScores.load(file) for file in files]
    values = []
    for file, checkpoint in zip(files, scores, strict=True):
        if checkpoint.per_example is None:
            raise SystemExit(f"{file}: its scores were kept as a mean only")
        values.append(checkpoint.per_example[:, checkpoint.mask].double())
    before, after = values

    def sample(n: int, draw: torch.Generator) -> Pair:
        indices = torch.randint(len(before), (n,), generator=draw)
        return before[indices], after[indices]

    means = before.mean(dim=0), after.mean(dim=0)
    return Population("real scores", scores[0].layout, *means, sample, after - before)


def centred(population: Population) -> Population:
    """The same noise, and no mean that changes: shapes may."""
    mean_scores, change = population.before, population.after - population.before

    def sample(n: int, draw: torch.Generator) -> Pair:
        before, after = population.sample(n, draw)
        return before, after - change

    return Population(population.name, population.layout, mean_scores, mean_scores, sample)


def unchanged(population: Population) -> Population:
    """No change at all: which checkpoint is which is drawn by example."""
    mean_scores = (population.before + population.after) / 2

    def sample(n: int, draw: torch.Generator) -> Pair:
        before, after = population.sample(n, draw)
        swap = torch.randint(2, (n, 1), generator=draw).bool()
        return torch.where(swap, after, before), torch.where(swap, before, after)

    return Population(population.name, population.layout, mean_scores, mean_scores, sample)
