"""What the verbs' tests share."""

import functools
from unittest import mock

import pytest

from circuits import planning


@pytest.fixture(scope="session", autouse=True)
def rates_measured_once():
    """What `circuits plan` times of the device: for seconds, and the same whatever is planned."""
    real, measured = planning.measure_rates, []

    @functools.wraps(real)
    def once(*asked):
        measured[:] = measured or [real(*asked)]
        return measured[0]

    with mock.patch.object(planning, "measure_rates", once):
        yield
