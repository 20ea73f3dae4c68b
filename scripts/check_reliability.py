"""Do circuits of new examples agree as `circuits.reliability` says that they will, and as much as
was asked for where `until_stable` stopped?

    python scripts/check_reliability.py [--repeats 20] [--examples 24]

Scores of many edges are simulated about a known truth, whose spread is that of products of normals
and whose noise grows with an edge's own size. Samples of n examples say what circuits of n others
would share and how many examples a Jaccard index of .8 takes; other samples, of n and of as many as
were said, tell what they do share. Prints a row for each rule and ranking; all is seeded.

Then examples are added as `until_stable` asks for them, up to 1,024. Prints where it stopped, and
what circuits of so many examples do share: mean over the repeats, least, share of them under .75.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from statistics import mean, median, stdev

import torch

from circuits.evaluation import reliability, until_stable
from circuits.graph import EdgeScores, Layout, Provenance, select
from circuits.options.choices import Ranking, Strategy

LAYOUT = Layout(3, 4, 4)
SIZE = 20
OTHERS = range(1000, 1030)
MOST = 1024
NUMBERS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, MOST)
WAYS: tuple[tuple[Strategy, Ranking], ...] = (
    ("top-n", "absolute"),
    ("top-n", "signed"),
    ("widest-path", "absolute"),
)


def sample(n: int, seed: int) -> EdgeScores:
    """Scores of n examples, all draws by the seed but the truth."""
    truth = torch.Generator().manual_seed(0)
    means = torch.randn(LAYOUT.shape, generator=truth) * torch.randn(LAYOUT.shape, generator=truth)
    draw = torch.Generator().manual_seed(100 + seed)
    noise = torch.randn(n, *LAYOUT.shape, generator=draw)
    example_scores = (means + (1.5 * means.abs() ** 0.7 + 0.1) * noise) * LAYOUT.mask
    return EdgeScores(example_scores.mean(0), LAYOUT, "simulated", Provenance(), example_scores)


def met(n: int, strategy: Strategy, ranking: Ranking) -> float:
    """The Jaccard index that circuits of n examples do have, over pairs of samples."""
    masks = [
        select(sample(n, seed), size=SIZE, strategy=strategy, ranking=ranking, prune=False).mask
        for seed in OTHERS
    ]
    return mean(float((a & b).sum()) / float((a | b).sum()) for a, b in combinations(masks, 2))


def stopped(seed: int, strategy: Strategy, ranking: Ranking) -> int | None:
    """Examples at which `until_stable` ends; None where it would take more than there are."""
    all_scores = sample(MOST, seed).per_example
    assert all_scores is not None
    stopping_rule = until_stable(size=SIZE, strategy=strategy, ranking=ranking)
    n = stopping_rule.first
    while n <= MOST:
        prefix_scores = EdgeScores(
            all_scores[:n].mean(0), LAYOUT, "simulated", Provenance(), all_scores[:n]
        )
        if (n_next := stopping_rule.more(prefix_scores)) <= n:
            return n
        n = n_next
    return None


def stops(repeats: int, strategy: Strategy, ranking: Ranking) -> str:
    """A row: where it stops, and how alike circuits of so many examples truly are."""
    curve = torch.tensor([met(n, strategy, ranking) for n in NUMBERS])
    axis = torch.tensor(NUMBERS).log()
    ends = [stopped(seed, strategy, ranking) for seed in range(repeats)]
    n_reached = torch.tensor([n for n in ends if n is not None], dtype=torch.float)
    right = torch.bucketize(n_reached.log(), axis).clamp(1, len(axis) - 1)
    weight = (n_reached.log() - axis[right - 1]) / (axis[right] - axis[right - 1])
    likenesses = curve[right - 1].lerp(curve[right], weight)
    return (
        f"| {strategy}, {ranking} | {len(n_reached)} of {repeats} | {n_reached.mean():.0f} "
        f"[{n_reached.min():.0f}, {n_reached.max():.0f}] | {likenesses.mean():.3f} | "
        f"{likenesses.min():.2f} | {(likenesses < 0.75).float().mean():.2f} |"
    )


def main() -> None:
    """Read the options, print the table."""
    parser = argparse.ArgumentParser(description="Is reliability what it is said to be?")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--examples", type=int, nargs="+", default=(24,))
    options = parser.parse_args()
    print("| rule, ranking | n | met | said (sd) | holds | needed, median | met there |")
    print("|---|---|---|---|---|---|---|")
    for strategy, ranking in WAYS:
        for n in options.examples:
            truth = met(n, strategy, ranking)
            estimates = [
                reliability(sample(n, seed), size=SIZE, strategy=strategy, ranking=ranking)
                for seed in range(options.repeats)
            ]
            likenesses = [estimate.likeness.value for estimate in estimates]
            coverage = mean(
                estimate.likeness.low <= truth <= estimate.likeness.high for estimate in estimates
            )
            n_needed = round(
                median(estimate.needed.value for estimate in estimates if estimate.needed)
            )
            print(
                f"| {strategy}, {ranking} | {n} | {truth:.3f} |"
                f" {mean(likenesses):.3f} ({stdev(likenesses):.3f}) "
                f"| {coverage:.2f} | {n_needed} | {met(n_needed, strategy, ranking):.3f} |",
                flush=True,
            )
    print("\n| rule, ranking | reached | stopped at | met there | least | under .75 |")
    print("|---|---|---|---|---|---|")
    for strategy, ranking in WAYS:
        print(stops(options.repeats, strategy, ranking), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
