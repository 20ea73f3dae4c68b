"""Quadrature rules against integrals that are known."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import circuits
from circuits.attribution import method
from circuits.attribution.engine import edge_scores
from circuits.attribution.quadrature import ENDS, REFINEMENTS, RULES, Rule, rule
from circuits.errors import CircuitsError
from circuits.metrics import metric_for


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
    ("name", "degree"),
    [("left", 0), ("right", 0), ("midpoint", 1), ("trapezoid", 1), ("gauss-legendre", 9)],
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
    assert rule("right", 5).nodes == pytest.approx((0.2, 0.4, 0.6, 0.8, 1))
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


def l1(found, expected):
    return float((found - expected).abs().sum() / expected.abs().sum())


def converged(model, pairs):
    return circuits.attribute(model, pairs, steps=300, per_example=True)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_estimate_is_the_completeness_gap(name, hooked, random_pairs):
    """The edges out of `input` are all the ways in which the embedding enters the model."""
    model, pairs = hooked(name), random_pairs(n=2)
    batch, metric = pairs.batch([0, 1]), metric_for(pairs)
    slopes = torch.stack(
        [
            edge_scores(model, batch, metric, Rule((node,), (1.0,))).scores[:, 0].sum(dim=1)
            for node in (0.25, 0.75)
        ]
    )
    found = method("eap-ig", steps=2).scores(model, batch, metric)
    moved = found.clean - found.corrupted
    assert torch.allclose(found.gap, (slopes.mean(dim=0) - moved).abs(), rtol=1e-3)
    assert torch.allclose(found.scale, torch.maximum(slopes.abs().mean(dim=0), moved.abs()))
    assert torch.allclose(found.error, found.gap / found.scale) and found.error.min() > 1e-3
    error = circuits.attribute(model, pairs, steps=2).details["error"]
    assert error["estimate"] == pytest.approx(float(found.gap.sum() / found.scale.sum()))
    assert error["worst"] == pytest.approx(float(found.error.max()))
    assert error["worst"] > error["estimate"] and error["gradients"] == 2


@pytest.mark.parametrize("name", ["gptj", "gemma2", "t5", "bart"])
def test_gap_closes_where_no_row_of_the_matrix_says_it(name, hooked, random_pairs):
    """Two streams, norms behind the sources, norms on the stream."""
    model, pairs = hooked(name), random_pairs(n=2)
    rough = circuits.attribute(model, pairs, steps=1).details["error"]["estimate"]
    fine = circuits.attribute(model, pairs, steps=64).details["error"]["estimate"]
    assert fine < 0.02 and fine < rough / 10


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_estimate_falls_with_the_true_error(name, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=4)
    exact = converged(model, pairs)
    estimates, errors = [], []
    for steps in (1, 3, 10, 30):
        found = circuits.attribute(model, pairs, steps=steps)
        estimates.append(found.details["error"]["estimate"])
        errors.append(l1(found.matrix, exact.matrix))
    assert estimates == sorted(estimates, reverse=True) and errors == sorted(errors, reverse=True)
    assert errors[0] > 100 * errors[-1] and estimates[0] > 50 * estimates[-1]


def test_auto_spends_on_each_example_what_it_needs(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=6, lengths=[9, 14, 6, 9, 11, 7])
    exact = converged(model, pairs).per_example
    batch = pairs.batch([*range(6)])
    rough = method("eap-ig", steps="auto", tolerance=0.2).scores(model, batch, metric_for(pairs))
    fine = method("eap-ig", steps="auto", tolerance=0.002).scores(model, batch, metric_for(pairs))
    for found, tolerance in ((rough, 0.2), (fine, 0.002)):
        assert (found.error <= tolerance).all()
        assert set(found.gradients.tolist()) <= {3, 7, 13, 25, 49, 97}
    assert len(set(fine.gradients.tolist())) > 1
    assert int(fine.gradients.sum()) > int(rough.gradients.sum())
    assert l1(fine.scores, exact) < 0.005 < l1(rough.scores, exact)
    for place, gradients in enumerate(fine.gradients.tolist()):
        plain = "midpoint" if gradients == 3 else "trapezoid"
        one = circuits.attribute(model, pairs[place : place + 1], steps=gradients, quadrature=plain)
        assert l1(fine.scores[place], one.matrix) < 1e-5


def test_auto_says_when_it_gives_up(hooked, random_pairs, monkeypatch, caplog):
    monkeypatch.setattr("circuits.attribution.refinement.REFINEMENTS", REFINEMENTS[:2])
    model, pairs = hooked("llama"), random_pairs(n=2)
    found = circuits.attribute(model, pairs, steps="auto", tolerance=1e-6)
    assert "random pair 0: estimated error" in caplog.text and "after 7 gradients" in caplog.text
    assert found.details["error"]["gradients"] == 7
    assert found.details["settings"] == {
        "steps": "auto",
        "quadrature": "midpoint",
        "tolerance": 1e-6,
    }


def test_a_choice_of_examples_is_the_batch_without_the_others(random_pairs):
    pairs = random_pairs(n=4, answers=2, lengths=[9, 9, 9, 9])
    chosen = pairs.batch([0, 1, 2, 3]).select(torch.tensor([True, False, False, True]))
    expected = pairs.batch([0, 3])
    for field in dataclasses.fields(expected):
        one, other = getattr(chosen, field.name), getattr(expected, field.name)
        assert one == other if isinstance(one, tuple) else torch.equal(one, other), field.name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": "many"}, "steps='many': a whole number, or 'auto'"),
        ({"steps": "auto", "quadrature": "left"}, "takes no quadrature 'left'"),
        ({"steps": "auto", "tolerance": 0.0}, "tolerance=0.0"),
        ({"steps": 5, "tolerance": 0.1}, "a tolerance belongs to steps='auto'"),
    ],
)
def test_refused_settings(settings, message):
    with pytest.raises(CircuitsError, match=message):
        method("eap-ig", **settings)
