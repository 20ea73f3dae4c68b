"""The simulation of many workers against what can be said of it in closed form."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from simulate_scale import simulated


def test_workers_alone_take_their_share_each():
    cost = simulated(4, 100, 2.0, 0.0, 10.0, 3)
    assert cost.seconds == pytest.approx(3 * (10 + 25 * 2))
    assert cost.driver == 0


def test_a_driver_that_is_slower_than_all_workers_sets_the_time():
    cost = simulated(8, 200, 1.0, 0.5, 0.0, 1)
    assert cost.seconds == pytest.approx(1 + 200 * 0.5)
    assert cost.driver == pytest.approx(100 / 101)


def test_more_workers_never_take_longer_but_for_loading():
    times = [simulated(n, 300, 1.0, 0.02, 5.0, 2).seconds for n in (1, 2, 4, 8, 16, 32, 64)]
    assert times == sorted(times, reverse=True) and times[0] > 10 * times[-1] > 0
