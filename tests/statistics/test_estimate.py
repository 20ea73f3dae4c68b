import math

import pytest
import torch

from circuits.format import estimate, interval
from circuits.statistics import mean_interval, resample_weights
from circuits.statistics.estimate import Estimate, mean_estimates


def test_means_of_any_shape_have_the_interval_of_each_column():
    values = torch.randn(20, 3, 2, generator=torch.Generator().manual_seed(0))
    found = mean_estimates(values, n_resamples=200, seed=5)
    assert found.value.shape == (3, 2) and found.n == 20
    low, high = mean_interval(values.reshape(20, 6), resample_weights(20, 200, seed=5))
    one = found[2, 1]
    assert one.value == pytest.approx(float(values[:, 2, 1].double().mean()))
    assert (one.low, one.high) == (float(low[5]), float(high[5])) and one.low < one.value < one.high
    assert list(found.row(2)) == [found[2, 0], found[2, 1]]
    held = found.clamped(-0.01, 0.01)
    assert float(held.low.min()) == -0.01 and torch.equal(held.value, found.value)


def test_estimates_are_written_with_what_they_have():
    whole = Estimate(0.5, 0.25, 0.75, 9)
    assert (estimate(whole, 2), interval(whole, 2)) == ("0.50 [0.25, 0.75]", "[0.25, 0.75]")
    assert estimate(Estimate(0.5, math.nan, math.nan, 1), 2) == "0.50"
    assert estimate(Estimate(math.nan, math.nan, math.nan, 0)) == estimate(None) == "undefined"


def test_an_estimate_without_an_interval_is_told_from_nothing():
    whole, lone = Estimate(0.5, 0.25, 0.75, 9), Estimate(0.5, math.nan, math.nan, 1)
    assert whole.excludes_zero and not Estimate(0.5, -0.1, 1.0, 9).excludes_zero
    assert whole.above(Estimate(0.1, 0.0, 0.2, 9)) and not whole.above(whole)
    assert not (lone.excludes_zero or lone.above(whole) or whole.above(lone))
