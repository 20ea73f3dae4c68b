"""Panels and dots: room for titles, axes that show no rounding."""

from __future__ import annotations

import pytest

from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels
from circuits.plot.figures.panels import balanced


def test_titles_of_panels_have_room() -> None:
    short = ["base → step-100"] * 4
    assert balanced(short) == 4 and balanced(short * 2) == 4 and balanced(short[:3] * 2) == 3
    assert balanced(["checkpoint-1000 → checkpoint-1500"] * 4) == 2
    assert balanced(["x" * 200] * 3) == 1 and balanced([]) == 1


def test_dots_of_one_value_have_a_sensible_axis() -> None:
    """Plotly would show the rounding."""
    for values, expected in (
        ([1.0, 1 - 1e-9], [0.95, 1.05]),
        ([0.0, 0.0], [-0.05, 0.05]),
        ([1.0, 0.99], None),
    ):
        dots = [Dot(0, row, value, value, value) for row, value in enumerate(values)]
        plot = dot_panels(["a"], ["x", "y"], [Series("s", "$ink", dots)], ValueAxis(), columns=1)
        found = plot["layout"]["xaxis"].get("range")
        assert found == (None if expected is None else pytest.approx(expected))
