"""Intervals over seeds and examples at once: what they are of, and that they hold the truth."""

from __future__ import annotations

import math

import pytest
import torch

from circuits.statistics import generator
from circuits.statistics.crossed import crossed_mean
from circuits.statistics.estimate import mean_estimates


def draws(seeds, examples, of_seed, of_example, noise, *, seed):
    dice = generator(seed)
    return (
        of_seed * torch.randn(seeds, 1, generator=dice)
        + of_example * torch.randn(1, examples, generator=dice)
        + noise * torch.randn(seeds, examples, generator=dice)
    )


@pytest.mark.parametrize(
    ("seeds", "parts"),
    [(3, (1.0, 1.0, 1.0)), (3, (0.1, 1.0, 1.0)), (5, (1.0, 0.0, 1.0)), (5, (0.3, 1.0, 0.5))],
)
def test_they_hold_the_truth(seeds, parts):
    held = 0
    for repeat in range(300):
        found = crossed_mean(draws(seeds, 30, *parts, seed=repeat), n_resamples=200, seed=repeat)
        held += found.low <= 0 <= found.high
    assert 0.9 < held / 300 <= 0.99


def test_an_interval_is_as_wide_as_its_errors():
    """Where seeds do nothing it is the one over examples; where examples do nothing, over seeds."""
    values = draws(4, 200, 0.0, 1.0, 0.01, seed=0)
    over_examples = mean_estimates(values.mean(dim=0))[()]
    found = crossed_mean(values, n_resamples=4000)
    assert found.value == pytest.approx(over_examples.value) and found.n == 200
    width = over_examples.high - over_examples.low
    assert found.high - found.low == pytest.approx(width, rel=0.06) and width > 0.1

    rows = torch.tensor([1.0, 2.0, 4.0, 5.0])[:, None].expand(4, 50)
    error = rows[:, 0].std() / 2
    found = crossed_mean(rows, n_resamples=4000)
    assert found.value == 3.0
    assert found.high - 3.0 == pytest.approx(float(3.1824 * error), rel=0.04)


def test_one_seed_one_example_and_no_spread():
    values = draws(1, 40, 0.0, 1.0, 0.0, seed=3)
    assert crossed_mean(values) == mean_estimates(values[0])[()]
    assert math.isnan(crossed_mean(values[:, :1]).low)
    assert crossed_mean(torch.full((3, 5), 2.0)) == type(crossed_mean(values))(2.0, 2.0, 2.0, 5)
