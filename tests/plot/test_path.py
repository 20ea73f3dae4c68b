"""The eye of the path of hidden states."""

from __future__ import annotations

import math

import pytest

from circuits.plot.figures.path import eye


@pytest.mark.parametrize("moved", [(3.0, 0.0, 0.0), (0.0, 3.0, 0.0), (2.0, 2.0, 0.5)])
def test_a_path_is_looked_at_from_the_side(moved: tuple[float, ...]) -> None:
    """Along the largest movement it would not be seen."""
    found = eye([(1.0, 1.0, 1.0), tuple(1 + x for x in moved), (1.0, 1.0, 1.0)])
    depth = sum(x * y for x, y in zip(found.values(), moved, strict=True))
    assert abs(depth) < 0.3 * math.hypot(*found.values()) * math.hypot(*moved)


def test_checkpoints_in_one_place_can_be_looked_at() -> None:
    assert set(eye([(1.0, 2.0, 3.0)] * 2)) == set("xyz")
