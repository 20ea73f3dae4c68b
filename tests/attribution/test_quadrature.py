"""Quadrature rules against integrals that are known."""

import dataclasses
import functools
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from oracles.calibration import nearest_weights

import circuits
from circuits.attribution import method
from circuits.attribution.calibration import calibrated_weights
from circuits.attribution.engine import edge_samples
from circuits.attribution.quadrature import ENDPOINTS, LEVELS, RULES, Rule, rule
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
    assert ENDPOINTS.nodes == (0.0, 1.0) and ENDPOINTS.weights == (0.5, 0.5)


def test_calibrated_points_are_crowded_in_the_middle():
    nodes = rule("calibrated", 9).nodes
    gaps = np.diff(nodes)
    assert gaps[4] == pytest.approx(gaps[3]) and (np.diff(gaps[:4]) < 0).all()
    assert np.add(nodes, nodes[::-1]) == pytest.approx(np.ones(9))
    assert gaps[3] / gaps[0] < 0.5


def test_levels_are_nested_and_exact_for_lines():
    for before, points in pairwise(LEVELS):
        assert {round(x, 9) for x in before.nodes} < {round(x, 9) for x in points.nodes}
    assert [len(points.nodes) for points in LEVELS] == [4, 7, 15, 31, 63]
    errors = [abs(integral(points, math.exp) - (math.e - 1)) for points in LEVELS]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-4
    for points in LEVELS:
        assert integral(points, lambda x: x) == pytest.approx(0.5)


def switch(x, at=0.4, width=0.08):
    """A metric that changes its mind on its way, with its slope."""
    rise = np.tanh((np.asarray(x) - at) / width)
    return 3 * rise + x, 3 * (1 - rise**2) / width + 1


def calibrated(points, metric, slope, ends):
    column = [torch.tensor(np.asarray(values))[:, None] for values in (metric, slope)]
    weights = calibrated_weights(points, *column, *(torch.tensor([end]) for end in ends))
    return weights[:, 0].numpy()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("steps", [3, 4, 5, 9])
def test_calibrated_weights_equal_constrained_least_squares(name, steps):
    points = rule(name, steps)
    metric, slope = switch(np.array(points.nodes))
    ends = [float(switch(end)[0]) for end in (0.0, 1.0)]
    found = calibrated(points, metric, slope, ends)
    expected = nearest_weights(points, metric, slope, *ends)
    assert np.abs(expected - points.weights).max() > 1e-4
    assert found == pytest.approx(expected, abs=1e-3 * np.abs(expected).max())


def test_calibrated_weights_give_what_is_known():
    points = rule("left", 6)
    x = np.array(points.nodes)
    metric, slope = 2 * x**2 - x + 1, 4 * x - 1
    weights = calibrated(points, metric, slope, (1.0, 2.0))
    for values, known in ((np.ones(6), 1), (slope, 1), (metric, 2 / 3 + 0.5)):
        assert weights @ values == pytest.approx(known, abs=1e-4)
    assert abs(points.weights @ slope - 1) > 0.1


@pytest.mark.parametrize("steps", [1, 2])
def test_few_points_are_scaled_to_the_difference(steps):
    points = rule("midpoint", steps)
    weights = calibrated(points, np.zeros(steps), np.full(steps, 4.0), (0.0, 3.0))
    assert weights == pytest.approx(np.full(steps, 0.75 / steps))


def test_a_peak_in_the_middle_costs_the_calibrated_rule_less():
    """An edge that runs like the metric's slope, like the metric, and on its own."""

    def edge(x):
        metric, slope = switch(x)
        return 0.3 * slope - metric + 0.1 * np.cos(3 * np.asarray(x))

    fine = rule("midpoint", 4000)
    exact = integral(fine, edge)
    ends = [float(switch(end)[0]) for end in (0.0, 1.0)]

    def error(name, steps):
        points = rule(name, steps)
        weights = np.array(points.weights)
        if points.calibrated:
            weights = calibrated(points, *switch(np.array(points.nodes)), ends)
        return abs(weights @ edge(np.array(points.nodes)) - exact)

    assert error("midpoint", 5) > 10 * error("calibrated", 5)
    assert error("midpoint", 7) > 10 * error("calibrated", 7)


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("simpson", 5, "unknown quadrature 'simpson'; known: midpoint"),
        ("midpoint", 0, "steps=0"),
        ("trapezoid", 1, "needs at least 2"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_refusals(name, steps, message):
    with pytest.raises(CircuitsError, match=message):
        rule(name, steps)


def l1(found, expected):
    return float((found - expected).abs().sum() / expected.abs().sum())


@pytest.fixture(scope="module")
def converged(hooked, random_pairs):
    """name -> scores of each of six pairs by a hundred gradients."""

    @functools.cache
    def scores(name):
        pairs = random_pairs(n=6)
        return circuits.attribute(hooked(name), pairs, steps=100, per_example=True).per_example

    return scores


def one_by_one(model, pairs, points):
    """Scores by each point's gradient, the metric and its slope there: one call a point."""
    batch, metric = pairs.batch([*range(len(pairs))]), metric_for(pairs)
    return [edge_samples(model, batch, metric, Rule((node,), (1.0,))) for node in points.nodes]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "bart", "t5"])
@pytest.mark.parametrize("quadrature", ["calibrated", "midpoint", "left"])
@pytest.mark.exhaustive_but("*-llama", "calibrated-gemma2", "midpoint-bart", "midpoint-t5")
def test_estimate_is_the_move_to_calibrated_weights(name, quadrature, hooked, random_pairs):
    model, pairs, points = hooked(name), random_pairs(n=2), rule(quadrature, 5)
    samples = one_by_one(model, pairs, points)
    own, moved = [], []
    for row in range(2):
        known = (
            [float(s.metric[0, row]) for s in samples],
            [float(s.slope[0, row]) for s in samples],
        )
        ends = (float(samples[0].corrupted[row]), float(samples[0].clean[row]))
        weights = torch.tensor(calibrated(points, *known, ends))
        values = torch.stack([sample.full_scores[row] for sample in samples]).double()
        own.append(torch.einsum("k,kuv->uv", torch.tensor(points.weights).double(), values))
        moved.append(torch.einsum("k,kuv->uv", weights, values))
    found = circuits.attribute(model, pairs, steps=5, quadrature=quadrature, per_example=True)
    expected = moved if points.calibrated else own
    for matrix, mine in zip(found.per_example, expected, strict=True):
        assert (matrix - mine).abs().max() < 1e-5 * mine.abs().max()
    shares = [
        float((a - b).abs().sum() / c.abs().sum())
        for a, b, c in zip(own, moved, expected, strict=True)
    ]
    error = found.provenance.error
    assert error.worst == pytest.approx(max(shares), rel=1e-2, abs=1e-6) and max(shares) > 1e-4
    mean = float((sum(own) - sum(moved)).abs().sum() / sum(expected).abs().sum())
    assert error.estimate == pytest.approx(mean, rel=1e-2, abs=1e-6)
    assert error.gradients == 5


def test_a_few_layers_stand_for_all(hooked, random_pairs, monkeypatch):
    model, pairs = hooked("llama"), random_pairs(n=3)
    whole = circuits.attribute(model, pairs, steps=4).provenance.error
    monkeypatch.setattr("circuits.attribution.engine.AUDITED", 1)
    part = circuits.attribute(model, pairs, steps=4)
    assert part.provenance.error != whole
    assert part.provenance.error.estimate == pytest.approx(whole.estimate, rel=1)
    assert torch.equal(part.matrix, circuits.attribute(model, pairs, steps=4).matrix)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("quadrature", ["midpoint", "left", "right", "trapezoid"])
@pytest.mark.exhaustive_but("midpoint-llama")
def test_estimate_is_near_the_true_error(name, quadrature, hooked, random_pairs, converged):
    model, pairs = hooked(name), random_pairs(n=6)
    found = circuits.attribute(model, pairs, steps=5, quadrature=quadrature)
    ratio = found.provenance.error.estimate / l1(found.matrix, converged(name).mean(dim=0))
    assert 1 / 2 < ratio < 2


@pytest.mark.parametrize("name", ["gptj", "gemma2", "t5", "bart"])
@pytest.mark.exhaustive_but("gemma2")
def test_estimate_vanishes_with_many_points(name, hooked, random_pairs):
    """Two streams, norms behind the sources, norms on the stream."""
    model, pairs = hooked(name), random_pairs(n=2)
    rough = circuits.attribute(model, pairs, steps=4).provenance.error.estimate
    fine = circuits.attribute(model, pairs, steps=64).provenance.error.estimate
    assert fine < 0.02 and fine < rough / 10


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.exhaustive_but("llama")
def test_estimate_falls_with_the_true_error(name, hooked, random_pairs, converged):
    model, pairs = hooked(name), random_pairs(n=4)
    exact = converged(name)[:4].mean(dim=0)
    estimates, errors = [], []
    for steps in (4, 8, 16, 32):
        found = circuits.attribute(model, pairs, steps=steps)
        estimates.append(found.provenance.error.estimate)
        errors.append(l1(found.matrix, exact))
    assert estimates == sorted(estimates, reverse=True) and errors == sorted(errors, reverse=True)
    assert errors[0] > 20 * errors[-1] and estimates[0] > 20 * estimates[-1]


@pytest.mark.parametrize("lengths", [[9, 14, 6], [9, 14, 6, 9, 11, 7]], ids=["three", "six"])
@pytest.mark.exhaustive
def test_auto_spends_on_each_example_what_it_needs(lengths, hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=len(lengths), lengths=lengths)
    exact = circuits.attribute(model, pairs, steps=100, per_example=True).per_example
    batch = pairs.batch([*range(len(lengths))])
    rough = method("eap-ig", steps="auto", tolerance=0.2).scores(model, batch, metric_for(pairs))
    fine = method("eap-ig", steps="auto", tolerance=0.002).scores(model, batch, metric_for(pairs))
    for found, tolerance in ((rough, 0.2), (fine, 0.002)):
        assert (found.error <= tolerance).all()
        assert set(found.gradients.tolist()) <= {4, 7, 15, 31, 63}
    assert len(set(fine.gradients.tolist())) > 1
    assert int(fine.gradients.sum()) > int(rough.gradients.sum())
    assert l1(fine.scores, exact) < 0.005 < l1(rough.scores, exact)
    for place in range(len(lengths)):
        one = circuits.attribute(model, pairs[place : place + 1], steps="auto", tolerance=0.002)
        assert one.provenance.error.gradients == int(fine.gradients[place])
        assert l1(fine.scores[place], one.matrix) < 1e-5


def test_auto_says_when_it_gives_up(hooked, random_pairs, monkeypatch, caplog):
    monkeypatch.setattr("circuits.attribution.refinement.LEVELS", LEVELS[:2])
    model, pairs = hooked("llama"), random_pairs(n=2)
    found = circuits.attribute(model, pairs, steps="auto", tolerance=1e-6)
    assert "random pair 0: estimated error" in caplog.text and "after 7 gradients" in caplog.text
    assert found.provenance.error.gradients == 7
    assert found.provenance.settings == {
        "steps": "auto",
        "quadrature": "calibrated",
        "tolerance": 1e-6,
    }


def test_a_choice_of_examples_is_the_batch_without_the_others(random_pairs):
    pairs = random_pairs(n=4, answers=2, lengths=[9, 9, 9, 9])
    chosen = pairs.batch([0, 1, 2, 3]).select(torch.tensor([True, False, False, True]))
    expected = pairs.batch([0, 3])
    for field in dataclasses.fields(expected):
        one, other = getattr(chosen, field.name), getattr(expected, field.name)
        same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        assert same, field.name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": "many"}, "steps='many': a whole number, or 'auto'"),
        ({"steps": "auto", "quadrature": "left"}, "takes no quadrature 'left'"),
        ({"steps": "auto", "tolerance": 0.0}, "tolerance=0.0"),
        ({"steps": 5, "tolerance": 0.1}, "a tolerance belongs to steps='auto'"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_refused_settings(settings, message):
    with pytest.raises(CircuitsError, match=message):
        method("eap-ig", **settings)
