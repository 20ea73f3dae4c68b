import math

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.statistics import (
    benjamini_hochberg,
    half_weights,
    jackknife_interval,
    mean_interval,
    normal_interval,
    resample_weights,
    sign_flips,
    student_quantile,
    student_tail,
    t_test,
)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_resamples_are_seeded_and_sum_to_one():
    weights = resample_weights(7, 50, seed=3)
    assert torch.equal(weights, resample_weights(7, 50, seed=3))
    assert not torch.equal(weights, resample_weights(7, 50, seed=4))
    assert torch.allclose(weights.sum(dim=1), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("resample", [False, True])
def test_halves_share_no_example(resample):
    first, second = half_weights(9, 30, seed=0, resample=resample)
    assert not ((first > 0) & (second > 0)).any()
    for side in (first, second):
        assert torch.allclose(side.sum(dim=1), torch.ones(30, dtype=torch.float64))
    if not resample:
        assert ((first > 0).sum(dim=1) == 4).all() and ((second > 0).sum(dim=1) == 5).all()


def test_sign_flips_are_signs():
    flips = sign_flips(5, 200, seed=0)
    assert set(flips.flatten().tolist()) == {-1.0, 1.0}
    assert abs(float(flips.mean())) < 0.1


@pytest.mark.parametrize("kind", ["percentile", "student"])
def test_interval_matches_a_loop_over_resamples(kind):
    values = draws(12, 3).exp()
    weights = resample_weights(12, 400, seed=1)
    low, high = mean_interval(values, weights, kind=kind)
    for column in range(3):
        x = values[:, column]
        found = []
        for row in weights:
            sample = torch.repeat_interleave(x, (row * 12).round().long())
            shift = sample.mean() - x.mean()
            found.append(shift if kind == "percentile" else shift / sample.std(correction=0))
        tails = torch.stack(found).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
        if kind == "percentile":
            expected = x.mean() + tails
        else:
            expected = x.mean() - tails.flip(0) * x.std(correction=0)
        assert torch.allclose(torch.stack([low[column], high[column]]), expected)


def test_columns_are_chunked_without_a_trace(monkeypatch):
    values, weights = draws(10, 30), resample_weights(10, 100, seed=0)
    whole = mean_interval(values, weights)
    monkeypatch.setattr("circuits.statistics._CHUNK", 400)
    for a, b in zip(whole, mean_interval(values, weights), strict=True):
        assert torch.allclose(a, b)


def test_a_constant_column_has_an_interval_of_no_width():
    values = torch.tensor([[0.0, 2.0]] * 10)
    for kind in ("student", "bca", "percentile"):
        low, high = mean_interval(values, resample_weights(10, 100, seed=0), kind=kind)
        assert low.tolist() == high.tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("name", "true_mean", "kinds"),
    [
        ("normal", 0.0, ("student", "bca", "percentile")),
        ("exponential", 1.0, ("student",)),
    ],
)
def test_intervals_cover_what_they_say(name, true_mean, kinds):
    """2,000 samples of 100: the binomial's own standard error is .005, hence 93-97 %."""
    draw = torch.Generator().manual_seed(5)
    values = torch.empty(100, 2000, dtype=torch.float64)
    values = (
        values.normal_(generator=draw) if name == "normal" else values.exponential_(generator=draw)
    )
    weights = resample_weights(100, 1000, seed=0)
    for kind in kinds:
        low, high = mean_interval(values, weights, kind=kind)
        covered = float(((low <= true_mean) & (true_mean <= high)).double().mean())
        assert 0.93 <= covered <= 0.97, (kind, covered)


@pytest.mark.parametrize("freedom", [1, 2, 9, 60, 199])
def test_student_tail_against_its_integral(freedom):
    t = torch.tensor([0.01, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    for value, tail in zip(t.tolist(), student_tail(t, freedom).tolist(), strict=True):
        x = torch.linspace(0, value, 200_001, dtype=torch.float64)
        density = (
            scale / math.sqrt(freedom * math.pi) * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
        )
        assert tail == pytest.approx(1 - 2 * float(torch.trapezoid(density, x)), abs=1e-9)


def test_student_tail_at_the_ends():
    t = torch.tensor([0.0, math.inf, 30.0], dtype=torch.float64)
    zero, infinite, far = student_tail(t, 60).tolist()
    assert (zero, infinite) == (1.0, 0.0)
    assert 0 < far < 1e-30


def test_student_quantile():
    assert student_quantile(0.95, 9) == pytest.approx(2.262157, abs=1e-6)
    assert student_quantile(0.95, 100_000) == pytest.approx(1.95999, abs=1e-4)


def test_jackknife_of_a_mean_is_the_t_interval():
    values = draws(15, 2)
    mean = values.mean(dim=0)
    left_out = (values.sum(dim=0) - values) / 14
    low, high = jackknife_interval(mean, left_out)
    reach = student_quantile(0.95, 14) * values.std(dim=0) / math.sqrt(15)
    assert torch.allclose(low, mean - reach) and torch.allclose(high, mean + reach)


def test_t_test_of_constant_columns():
    assert t_test(torch.tensor([[0.0, 3.0]] * 9)).tolist() == [1.0, 0.0]


def test_benjamini_hochberg_matches_the_definition():
    p = torch.tensor([0.03, 0.001, 0.2, 0.04, 0.04, 0.9], dtype=torch.float64)
    ordered = sorted(p.tolist())
    for value, q in zip(p.tolist(), benjamini_hochberg(p).tolist(), strict=True):
        slow = min(
            other * len(p) / (rank + 1) for rank, other in enumerate(ordered) if other >= value
        )
        assert q == pytest.approx(min(1.0, slow))
    assert len(benjamini_hochberg(torch.zeros(0))) == 0


def test_false_discoveries_with_no_true_change_and_with_some():
    """Under no change, P(any discovery) <= 5 % (+ 3 standard errors over 300 samples)."""
    draw = torch.Generator().manual_seed(0)
    any_found, false_share = [], []
    for _ in range(300):
        null = torch.randn(40, 100, generator=draw)
        any_found.append(bool((benjamini_hochberg(t_test(null)) <= 0.05).any()))
        null[:, :30] += 0.7
        found = benjamini_hochberg(t_test(null)) <= 0.05
        assert found.sum() > 10
        false_share.append(float(found[30:].sum() / found.sum()))
    assert sum(any_found) / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)
    assert sum(false_share) / 300 <= 0.05


def test_normal_interval_leaves_undefined_replicates_out():
    replicates = torch.tensor([[1.0, math.nan], [3.0, math.nan], [math.nan, math.nan]])
    low, high = normal_interval(torch.tensor([5.0, math.nan]), replicates)
    assert float(high[0] - 5) == pytest.approx(1.959964, abs=1e-5)
    assert low.isnan().tolist() == [False, True]


def test_refusals():
    with pytest.raises(CircuitsError, match="both must be positive"):
        resample_weights(0, 10, seed=0)
    with pytest.raises(CircuitsError, match="at least two"):
        student_tail(torch.ones(1), 0)
