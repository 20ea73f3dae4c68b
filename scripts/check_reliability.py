"""Do circuits of new examples agree as `circuits.reliability` says that they will?

    python scripts/check_reliability.py [--repeats 20] [--examples 24]

Scores of many edges are simulated about a known truth, whose spread is that of products of normals
and whose noise grows with an edge's own size. Samples of n examples say what circuits of n others
would share and how many examples a Jaccard index of .8 takes; other samples, of n and of as many as
were said, tell what they do share. Prints a row for each rule and ranking; all is seeded.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from statistics import mean, median, stdev

import torch

from circuits.evaluation import reliability
from circuits.graph import EdgeScores, Layout, select

LAYOUT = Layout(3, 4, 4)
SIZE = 20
OTHERS = range(1000, 1030)
WAYS = (("top-n", "absolute"), ("top-n", "signed"), ("paths", "absolute"))


def sample(n: int, seed: int) -> EdgeScores:
    """Scores of n examples, all draws by the seed but the truth."""
    truth = torch.Generator().manual_seed(0)
    means = torch.randn(LAYOUT.shape, generator=truth) * torch.randn(LAYOUT.shape, generator=truth)
    draw = torch.Generator().manual_seed(100 + seed)
    noise = torch.randn(n, *LAYOUT.shape, generator=draw)
    each = (means + (1.5 * means.abs() ** 0.7 + 0.1) * noise) * LAYOUT.mask
    return EdgeScores(each.mean(0), LAYOUT, "simulated", {}, each)


def met(n: int, rule: str, ranking: str) -> float:
    """The Jaccard index that circuits of n examples do have, over pairs of samples."""
    masks = [
        select(sample(n, seed), edges=SIZE, rule=rule, ranking=ranking, prune=False).mask
        for seed in OTHERS
    ]
    return mean(float((a & b).sum()) / float((a | b).sum()) for a, b in combinations(masks, 2))


def main() -> None:
    """Read the options, print the table."""
    parser = argparse.ArgumentParser(description="Is reliability what it is said to be?")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--examples", type=int, nargs="+", default=(24,))
    options = parser.parse_args()
    print("| rule, ranking | n | met | said (sd) | holds | needed, median | met there |")
    print("|---|---|---|---|---|---|---|")
    for rule, ranking in WAYS:
        for n in options.examples:
            truth = met(n, rule, ranking)
            found = [
                reliability(sample(n, seed), size=SIZE, rule=rule, ranking=ranking)
                for seed in range(options.repeats)
            ]
            said = [one.likeness.value for one in found]
            holds = mean(one.likeness.low <= truth <= one.likeness.high for one in found)
            needed = round(median(one.needed.value for one in found if one.needed))
            print(
                f"| {rule}, {ranking} | {n} | {truth:.3f} | {mean(said):.3f} ({stdev(said):.3f}) "
                f"| {holds:.2f} | {needed} | {met(needed, rule, ranking):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
