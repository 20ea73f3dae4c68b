"""Quadrature rules against integrals that are known."""

import math

import numpy as np
import pytest

from circuits.attribution.quadrature import ENDS, REFINEMENTS, RULES, rule
from circuits.errors import CircuitsError


def integral(points, function):
    return sum(w * function(x) for x, w in zip(points.nodes, points.weights, strict=True))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("steps", [2, 3, 4, 5, 9])
def test_nodes_lie_on_the_path_and_weights_are_positive_and_sum_to_one(name, steps):
    points = rule(name, steps)
    assert len(points.nodes) == len(points.weights) == steps
    assert list(points.nodes) == sorted(points.nodes)
    assert points.nodes[0] >= 0 and points.nodes[-1] <= 1
    assert min(points.weights) > 0 and sum(points.weights) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "degree"), [("left", 0), ("midpoint", 1), ("trapezoid", 1), ("gauss-legendre", 9)]
)
def test_exact_up_to_its_degree_and_no_further(name, degree):
    points = rule(name, 5)
    for power in range(degree + 1):
        assert integral(points, lambda x, n=power: x**n) == pytest.approx(1 / (power + 1))
    off = integral(points, lambda x: x ** (degree + 1)) - 1 / (degree + 2)
    assert abs(off) > 1e-7


@pytest.mark.parametrize(
    ("name", "order"), [("left", 1), ("midpoint", 2), ("trapezoid", 2), ("corrected-midpoint", 3)]
)
def test_falls_at_its_order(name, order):
    def error(steps):
        nodes = steps + 1 if name == "trapezoid" else steps  # panels double, not nodes
        return abs(integral(rule(name, nodes), math.exp) - (math.e - 1))

    assert error(40) / error(80) == pytest.approx(2**order, rel=0.1)


def test_corrected_midpoint_moves_a_twenty_fourth_of_a_weight():
    assert np.allclose(rule("corrected-midpoint", 3).weights, np.array([25, 22, 25]) / 72)
    assert np.allclose(rule("corrected-midpoint", 5).weights, np.array([25, 23, 24, 23, 25]) / 120)
    assert rule("corrected-midpoint", 2) == rule("midpoint", 2)


def test_left_is_the_papers_sum_and_the_ends_are_clean_and_corrupted():
    assert rule("left", 5).nodes == pytest.approx((0, 0.2, 0.4, 0.6, 0.8))
    assert ENDS.nodes == (0.0, 1.0) and ENDS.weights == (0.5, 0.5)


def test_refinements_average_to_trapezoids_with_twice_the_panels():
    nodes, total = set(), 0.0
    for level, points in enumerate(REFINEMENTS):
        assert not nodes & {round(x, 9) for x in points.nodes}, "a node is paid for twice"
        nodes |= {round(x, 9) for x in points.nodes}
        new = integral(points, math.exp)
        total = new if level == 0 else (total + new) / 2
        if level:
            whole = rule("trapezoid", 3 * 2**level + 1)
            assert total == pytest.approx(integral(whole, math.exp), abs=1e-12)
            assert nodes == {round(x, 9) for x in whole.nodes}
    assert len(nodes) == 97


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("simpson", 5, "unknown quadrature 'simpson'; known: midpoint"),
        ("midpoint", 0, "steps=0"),
        ("trapezoid", 1, "needs at least 2"),
    ],
)
def test_refusals(name, steps, message):
    with pytest.raises(CircuitsError, match=message):
        rule(name, steps)
