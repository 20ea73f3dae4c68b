import math

import numpy as np
import pytest
import torch

from circuits.errors import CircuitsError
from circuits.statistics import (
    bca_interval,
    benjamini_hochberg,
    half_weights,
    jackknife_interval,
    mean_inference,
    mean_interval,
    normal_interval,
    random_halves,
    resample_weights,
    sign_flips,
    student_quantile,
    student_tail,
    subset_interval,
    subset_weights,
)
from circuits.statistics.inference import quantiles


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_resamples_are_seeded_and_sum_to_one():
    weights = resample_weights(7, 50, seed=3)
    assert torch.equal(weights, resample_weights(7, 50, seed=3))
    assert not torch.equal(weights, resample_weights(7, 50, seed=4))
    assert torch.allclose(weights.sum(dim=1), torch.ones(50, dtype=torch.float64))


def test_halves_share_no_example():
    halves = random_halves(9, 30, seed=0)
    assert (halves.sum(dim=1) == 4).all() and len({tuple(row.tolist()) for row in halves}) > 20
    weights = resample_weights(9, 30, seed=1)
    first, second = half_weights(weights, halves)
    assert not ((first > 0) & (second > 0)).any()
    for side, half in ((first, halves), (second, ~halves)):
        assert torch.allclose(side.sum(dim=1), torch.ones(30, dtype=torch.float64))
        assert torch.equal(side > 0, half & (weights > 0))


def test_a_half_without_weight_keeps_its_examples():
    weights = torch.tensor([[0.5, 0.5, 0.0, 0.0]], dtype=torch.float64)
    first, second = half_weights(weights, torch.tensor([[True, True, False, False]]))
    assert first.tolist() == [[0.5, 0.5, 0, 0]] and second.tolist() == [[0, 0, 0.5, 0.5]]


@pytest.mark.parametrize("share", [0.5, 0.65, 0.9])
def test_subset_interval_of_a_mean_is_students(share):
    """The delete-d jackknife of a mean gives its standard error, whatever d is."""
    values = draws(40, 3)
    weights = subset_weights(40, 4000, share=share, seed=0)
    assert ((weights > 0).sum(dim=1) == round(share * 40)).all()
    assert torch.allclose(weights.sum(dim=1), torch.ones(4000, dtype=torch.float64))
    low, high = subset_interval(values.mean(dim=0), weights @ values, weights)
    assert torch.allclose((low + high) / 2, values.mean(dim=0))
    expected = 2 * student_quantile(0.95, 39) * values.std(dim=0) / math.sqrt(40)
    assert torch.allclose(high - low, expected, rtol=0.05)
    freedom = torch.tensor([1.9, 39.0, math.inf])  # those of two or more count whole
    low, high = subset_interval(values.mean(dim=0), weights @ values, weights, freedom=freedom)
    quantiles = torch.tensor([student_quantile(0.95, 1), student_quantile(0.95, 39), 1.959964])
    assert torch.allclose(high - low, expected * quantiles / quantiles[1], rtol=0.05)
    undefined = torch.tensor([[1.0, math.nan], [3.0, math.nan], [math.nan, math.nan]])
    low, high = subset_interval(torch.tensor([5.0, math.nan]), undefined, weights[:3])
    assert low.isnan().tolist() == [False, True] and float(low[0]) < 5 < float(high[0])


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_subset_interval_of_a_count_above_a_threshold(share):
    """300 means at even distances from 0: halves tell how much the number above it varies."""
    margins, errors, counts = torch.linspace(-1.5, 1.5, 300), [], []
    weights = subset_weights(50, 200, share=share, seed=0)
    for seed in range(60):
        noise = torch.randn(50, 300, generator=torch.Generator().manual_seed(seed))
        values = (margins + noise).double()
        counts.append((values.mean(dim=0) > 0).sum())
        found = ((weights @ values) > 0).double().sum(dim=1, keepdim=True)
        low, high = subset_interval(counts[-1].double()[None], found, weights)
        errors.append((high - low) / (2 * student_quantile(0.95, 49)))
    true = float(torch.stack(counts).double().std())
    ratio = float(torch.cat(errors).mean()) / true
    assert abs(ratio / (share / (1 - share)) ** 0.25 - 1) < 3 / math.sqrt(2 * 60)


def test_a_subset_that_is_no_proper_part_is_refused():
    with pytest.raises(CircuitsError, match="50% of 1 examples"):
        subset_weights(1, 10, seed=0)


def test_sign_flips_are_signs():
    flips = sign_flips(5, 200, seed=0)
    assert set(flips.flatten().tolist()) == {-1.0, 1.0}
    assert abs(float(flips.mean())) < 0.1


def slow_inference(x, weights, level=0.95):
    """Symmetric bootstrap-t of one column, a resample at a time."""
    n, found = len(x), []
    for row in weights:
        sample = torch.repeat_interleave(x, (row * n).round().long())
        error = sample.std() / math.sqrt(n)
        found.append(float((sample.mean() - x.mean()).abs() / error) if error > 0 else 0.0)
    place = level * (len(found) - 1)
    lower, rest = int(place), place - int(place)
    ordered = sorted(found)
    reach = ordered[lower] + rest * (ordered[min(lower + 1, len(found) - 1)] - ordered[lower])
    reach = max(reach, student_quantile(level, n - 1))
    error = float(x.std()) / math.sqrt(n)
    return float(x.mean()) - reach * error, float(x.mean()) + reach * error


@pytest.mark.parametrize("n_resamples", [101, 400])
def test_interval_matches_a_loop_over_resamples(n_resamples):
    values = draws(12, 4).exp() ** torch.tensor([0.1, 1.0, 2.0, 3.0])
    weights = resample_weights(12, n_resamples, seed=1)
    low, high = mean_interval(values, weights)
    for column in range(4):
        expected = slow_inference(values[:, column], weights)
        assert (float(low[column]), float(high[column])) == pytest.approx(expected, rel=1e-4)
    # Student's own reach is the least; heavy tails go beyond it.
    student = student_quantile(0.95, 11) * values.std(dim=0) / math.sqrt(12)
    assert float((high - low)[3] / 2) > 1.2 * float(student[3])


@pytest.mark.parametrize("count", [1, 2, 20, 101, 350])
@pytest.mark.parametrize("level", [0.0, 0.3, 0.95, 1.0])
def test_quantiles_are_numpys(count, level):
    """To the byte, ties among them; 0.95 of 100 gaps is a place itself."""
    values = draws(50, count).float().round(decimals=1)
    expected = np.quantile(values.numpy(), level, axis=1)
    assert np.array_equal(quantiles(values, level).numpy(), expected)


@pytest.mark.parametrize("count", [2, 4, 7, 8])
def test_few_examples_have_the_interval_of_student(count):
    """Resamples of four gaps that are clearly above 0 gave an interval three times as wide."""
    values = torch.tensor([3.44, 5.38, 5.59, 3.12, 4.4, 2.9, 4.8, 30.0])[:count, None]
    low, high, p = mean_inference(values, resample_weights(count, 1000, seed=0))
    error = values.double().std(dim=0) / math.sqrt(count)
    reach = student_quantile(0.95, count - 1) * error
    p_of_student = student_tail(values.double().mean(dim=0) / error, count - 1)
    if count < 8:
        assert torch.allclose((high - low) / 2, reach) and torch.allclose(p, p_of_student)
    else:
        assert (high - low) / 2 > 1.2 * reach and p > p_of_student
    if count == 4:
        assert (float(low), float(high)) == pytest.approx((2.34, 6.43), abs=0.01)


def test_p_is_small_exactly_where_the_interval_excludes_zero():
    values = draws(15, 400) ** 3 + torch.linspace(0, 3, 400)
    low, high, p = mean_inference(values, resample_weights(15, 300, seed=0))
    outside = (low > 0) | (high < 0)
    assert 50 < int(outside.sum()) < 350
    assert torch.equal(outside, p < 0.05)
    student = student_tail(values.mean(dim=0) / values.std(dim=0) * math.sqrt(15), 14)
    assert (p >= student - 1e-12).all() and (p > student * 1.01).any()


def test_units_do_not_matter():
    values, weights = draws(20, 5).exp(), resample_weights(20, 100, seed=0)
    low, high, p = mean_inference(values, weights)
    small_low, small_high, small_p = mean_inference(values * 1e-30, weights)
    assert torch.allclose(low * 1e-30, small_low, rtol=1e-5, atol=0)
    assert torch.allclose(high * 1e-30, small_high, rtol=1e-5, atol=0)
    assert torch.allclose(p, small_p, rtol=1e-4)


def test_columns_are_chunked_without_a_trace(monkeypatch):
    values, weights = draws(10, 30), resample_weights(10, 100, seed=0)
    whole = mean_inference(values, weights)
    monkeypatch.setattr("circuits.statistics.inference._CHUNK", 400)
    for a, b in zip(whole, mean_inference(values, weights), strict=True):
        assert torch.allclose(a, b)
    assert [len(end) for end in mean_inference(values[:, :0], weights)] == [0, 0, 0]


def test_a_constant_column_has_an_interval_of_no_width():
    values = torch.tensor([[0.0, 2.0]] * 10)
    low, high, p = mean_inference(values, resample_weights(10, 100, seed=0))
    assert low.tolist() == high.tolist() == [0.0, 2.0]
    assert p.tolist() == [1.0, 0.0]


def heavy(name, n, columns, draw):
    """Columns of mean 0: normal, skewed, or a difference times a gradient, as edge scores are."""
    a, b = torch.randn(2, n, columns, generator=draw, dtype=torch.float64)
    made = {"normal": a, "exponential": a.new_empty(n, columns).exponential_(generator=draw) - 1}
    made["product"] = a * b
    return made[name]


@pytest.mark.parametrize("count", [20, 50, 100])
@pytest.mark.parametrize("name", ["normal", "product", "exponential"])
def test_intervals_cover_what_they_say(name, count):
    """4,000 samples: the binomial's own standard error is .0035, hence 93 % less two of them."""
    values = heavy(name, count, 4000, torch.Generator().manual_seed(5))
    low, high = mean_interval(values, resample_weights(count, 500, seed=0))
    covered = float(((low <= 0) & (high >= 0)).double().mean())
    assert 0.923 <= covered <= 0.977, covered


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


def test_benjamini_hochberg_matches_the_definition():
    p = torch.tensor([0.03, 0.001, 0.2, 0.04, 0.04, 0.9], dtype=torch.float64)
    ordered = sorted(p.tolist())
    for value, q in zip(p.tolist(), benjamini_hochberg(p).tolist(), strict=True):
        slow = min(
            other * len(p) / (rank + 1) for rank, other in enumerate(ordered) if other >= value
        )
        assert q == pytest.approx(min(1.0, slow))
    assert len(benjamini_hochberg(torch.zeros(0))) == 0


@pytest.mark.parametrize("name", ["normal", "product"])
@pytest.mark.exhaustive_but("product")
def test_false_discoveries_with_no_true_change_and_with_some(name):
    """Under no change, P(any discovery) <= 5 % (+ 3 standard errors over 300 samples)."""
    draw = torch.Generator().manual_seed(0)
    weights = resample_weights(40, 100, seed=0)
    any_found, false_share, power = [], [], []
    for _ in range(300):
        null = heavy(name, 40, 100, draw)
        any_found.append(bool((benjamini_hochberg(mean_inference(null, weights)[2]) <= 0.05).any()))
        null[:, :30] += 0.7
        found = benjamini_hochberg(mean_inference(null, weights)[2]) <= 0.05
        power.append(float(found[:30].double().mean()))
        false_share.append(float(found[30:].sum() / found.sum().clamp_min(1)))
    assert sum(any_found) / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)
    assert sum(false_share) / 300 <= 0.05
    assert sum(power) / 300 > 0.8


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
    with pytest.raises(CircuitsError, match="at least two"):
        student_quantile(0.95, 0)
    with pytest.raises(CircuitsError, match="a p-value is undefined"):
        benjamini_hochberg(torch.tensor([0.1, math.nan]))


def test_bca_of_few_examples_does_not_hang_on_rounding():
    """Of four examples every 11th resample is the sample itself: neither above it nor below."""
    values = draws(4, 1)
    weights = resample_weights(4, 1000, seed=0)
    estimate, replicates = values.mean(dim=0), weights @ values
    same = (weights == 0.25).all(dim=1)
    assert 60 < same.sum() < 130
    ends = []
    for nudge in (-1e-15, 0.0, 1e-15):
        moved = torch.where(same[:, None], estimate + nudge, replicates)
        ends.append(torch.stack(bca_interval(estimate, moved, values - estimate)))
    assert torch.allclose(ends[0], ends[1]) and torch.allclose(ends[2], ends[1])
