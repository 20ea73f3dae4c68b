"""Bias-corrected and accelerated intervals by loops over resamples, number by number.

Efron and Tibshirani (1993), chapter 14; nothing here is shared with the package.
"""

from __future__ import annotations

from statistics import NormalDist, mean

NORMAL = NormalDist()


def bca(rows, statistic, counts):
    """A figure of some rows, with the ends of its interval.

    rows: one an example. statistic: from a list of rows to a number.
    counts: of each resample, how often each example is in it.
    """
    n, point = len(rows), statistic(rows)
    replicates = sorted(
        statistic([rows[index] for index, often in enumerate(one) for _ in range(often)])
        for one in counts
    )
    tie = 1e-9 * max(map(abs, replicates))
    equal = sum(abs(value - point) <= tie for value in replicates)
    below = sum(value < point - tie for value in replicates)
    bias = NORMAL.inv_cdf((below + equal / 2) / len(replicates))
    without = [statistic(rows[:index] + rows[index + 1 :]) for index in range(n)]
    residuals = [mean(without) - value for value in without]
    acceleration = sum(r**3 for r in residuals) / (6 * sum(r**2 for r in residuals) ** 1.5)
    ends = []
    for share in (0.025, 0.975):
        shifted = bias + NORMAL.inv_cdf(share)
        rank = NORMAL.cdf(bias + shifted / (1 - acceleration * shifted)) * (len(replicates) - 1)
        lower = int(rank)
        upper = min(lower + 1, len(replicates) - 1)
        ends.append(replicates[lower] + (rank - lower) * (replicates[upper] - replicates[lower]))
    return point, ends[0], ends[1]
