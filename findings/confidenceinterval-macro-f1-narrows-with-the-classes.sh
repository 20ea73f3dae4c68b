#!/usr/bin/env bash
# confidenceinterval: the interval of macro F1 has a width that follows the number of classes, not the data.
#
# Versions: confidenceinterval 1.0.5, scikit-learn 1.9.1, scipy 1.17.1, numpy 2.4.6, Python 3.11.
# Behaviour: `f1_score(average="macro")` gives by default an analytic interval after Takahashi and others (2022),
# and names the formula. Two of its signs are others in the code: a product of two factors is their sum,
# and a division by the product of two marginals is one by their sum. What is left is about a constant
# divided by the number of classes. With few classes and a good model an interval of 95 % is nearly three times too
# wide and always holds; with many it is several times too narrow. The value itself is right. Nothing is said.
# Seen, on 200 samples each from known tables of truth against prediction: with 3 classes 100 % of the intervals hold
# the true value and are 2.8 times as wide as by the published formula; with 10, 86.5 %; with 50, 59.5 %; with
# 100, 42.0 %, a quarter as wide. By the published formula it is 93 to 98 %, whatever the classes.
# The last line is "the width follows the number of classes".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    confidenceinterval==1.0.5 scikit-learn==1.9.1 statsmodels==0.15.0 pandas==3.1.1 scipy==1.17.1 numpy==2.4.6
cat > "$work/try.py" <<'PY'
import warnings

import numpy as np
from confidenceinterval import f1_score
from sklearn import metrics

warnings.simplefilter("error")
draw = np.random.default_rng(1)


def published(table):
    """Variance of macro F1 as in Takahashi and others (2022), from a table of counts."""
    share = table / table.sum()
    hit, both, k = np.diag(share), share.sum(0) + share.sum(1), len(share)
    f1 = 2 * hit / both
    missed = (both - 2 * hit) / both
    own = (f1 * missed / both * (missed + f1 / 2)).sum()
    pairs = share * np.outer(f1 / both, f1 / both)
    return 2 * (own + pairs.sum() - np.trace(pairs)) / k**2 / table.sum()


def coverage(k, accuracy, size, samples=200):
    """Shares of intervals of 95 % that hold the true macro F1, and their mean widths: ours, published."""
    law = np.full((k, k), (1 - accuracy) / (k - 1) / k)
    np.fill_diagonal(law, accuracy / k)
    true = (2 * np.diag(law) / (law.sum(0) + law.sum(1))).mean()
    held, width = np.zeros(2), np.zeros(2)
    for _ in range(samples):
        table = draw.multinomial(size, law.ravel()).reshape(k, k)
        truth, guess = (np.repeat(labels, table.ravel()) for labels in np.indices((k, k)).reshape(2, -1))
        value, (low, high) = f1_score(truth, guess, average="macro")
        assert np.isclose(value, metrics.f1_score(truth, guess, average="macro"))
        reach = 1.96 * np.sqrt(published(table))
        held += [low < true < high, value - reach < true < value + reach]
        width += [high - low, 2 * reach]
    return held / samples, width / samples


for k, accuracy, size in ((3, 0.95, 500), (10, 0.8, 1000), (50, 0.8, 5000), (100, 0.7, 10_000)):
    (ours, right), (width, right_width) = coverage(k, accuracy, size)
    print(f"{k} classes: {ours:.1%} of the intervals hold the true value, mean width {width:.4f};", end=" ")
    print(f"by the published formula {right:.1%}, {right_width:.4f}")
    assert 0.9 < right < 0.99
    if k == 3:
        assert ours > 0.99 and width > 2.5 * right_width
    else:
        assert width < right_width
    if k >= 50:
        assert ours < 0.7 and width < right_width / 2
print("the width follows the number of classes")
PY
"$work/venv/bin/python" "$work/try.py"
