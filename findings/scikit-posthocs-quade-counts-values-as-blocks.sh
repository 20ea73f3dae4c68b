#!/usr/bin/env bash
# scikit-posthocs: Quade's pairwise test with the normal distribution finds a difference where there is none
# four to seven times too often.
#
# Versions: scikit-posthocs 0.17.1, statsmodels 0.15.0, scipy 1.17.1, pandas 3.1.1, numpy 2.4.6, Python 3.11.
# Behaviour: `posthoc_quade(dist="normal")` compares groups over blocks, such as methods over data sets. The
# standard error falls with the number of blocks; the code puts that of all values in its place, blocks times
# groups. So the variance is (k - 1) / 2k of the right one for k groups and many blocks: a quarter for
# two, never more than half. `dist="t"`, the default, is right. R's PMCMRplus, which the package follows
# and tests itself against, has the same line. Nothing is said.
# Seen, on 2,000 samples without any difference, p below .05 for one pair: 34.9 % with two groups and 20 blocks,
# 25.8 % with three, 21.2 % with five, 26.1 % with three groups and 100 blocks; with Student's t 4.3 to 5.1 %.
# By enumeration of all orders of small designs the exact variance is k(k + 1)(2b + 1) / 9b(b + 1) for b blocks.
# The last line is "values are counted as blocks".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    scikit-posthocs==0.17.1 statsmodels==0.15.0 scipy==1.17.1 pandas==3.1.1 numpy==2.4.6
cat > "$work/try.py" <<'PY'
import itertools
import warnings
from fractions import Fraction

import numpy as np
from scikit_posthocs import posthoc_quade
from scipy import stats

warnings.simplefilter("error")  # nothing is said of it
draw = np.random.default_rng(0)


def level(blocks, groups, dist, samples=2000):
    """Share of samples without any difference in which the first two groups differ at 5 %."""
    values = draw.normal(size=(samples, blocks, groups))
    return np.mean([posthoc_quade(sample, dist=dist).iat[0, 1] < 0.05 for sample in values])


for blocks, groups in ((20, 2), (20, 3), (20, 5), (100, 3)):
    normal, student = level(blocks, groups, "normal"), level(blocks, groups, "t")
    print(f"{groups} groups, {blocks} blocks: p below .05 in {normal:.1%} with the normal distribution,", end=" ")
    print(f"{student:.1%} with Student's t")
    assert normal > 0.18 and student < 0.065


def exact_variance(blocks, groups):
    """Of the difference of two groups' weighted mean ranks, over all orders within all blocks."""
    orders = list(itertools.permutations(range(1, groups + 1)))
    total = squares = 0
    for chosen in itertools.product(orders, repeat=blocks):
        difference = sum(weight * (order[0] - order[1]) for weight, order in enumerate(chosen, 1))
        total, squares = total + difference, squares + difference**2
    assert total == 0
    return Fraction(squares, len(orders) ** blocks) / Fraction(blocks * (blocks + 1), 2) ** 2


for blocks, groups in ((6, 2), (4, 3), (3, 4)):
    exact = exact_variance(blocks, groups)
    assert exact == Fraction(groups * (groups + 1) * (2 * blocks + 1), 9 * blocks * (blocks + 1))
    values = draw.normal(size=(blocks, groups))
    weights = stats.rankdata(np.ptp(values, axis=1))
    means = weights @ stats.rankdata(values, axis=1) / weights.sum()
    spread = (means[0] - means[1]) / stats.norm.isf(posthoc_quade(values, dist="normal").iat[0, 1] / 2)
    print(f"{groups} groups, {blocks} blocks: variance {spread**2 / float(exact):.3f} of the exact one")
    n = blocks * groups  # all values, in the place of the blocks
    formula = Fraction(groups * (groups + 1) * (2 * n + 1) * (groups - 1), 18 * n * (n + 1))
    assert np.isclose(spread**2, float(formula)) and formula < exact / 2
print("values are counted as blocks")
PY
"$work/venv/bin/python" "$work/try.py"
