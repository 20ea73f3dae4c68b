import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import kendalltau

from circuits.errors import CircuitsError
from circuits.graph import Layout
from circuits.importance import ResampledChanges, compare_criteria, edge_change
from circuits.importance.agreement import kendall
from circuits.statistics.estimate import Estimates


def test_tau_is_scipys_with_and_without_ties():
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(4, (30, 6), generator=draw).double()
    y = torch.randint(5, (30, 6), generator=draw).double()
    expected = torch.tensor(
        [kendalltau(*rows).statistic for rows in zip(x, y, strict=True)], dtype=torch.float64
    )
    assert expected.nan_to_num().abs().max() > 0.5
    assert torch.allclose(kendall(x, y), expected, equal_nan=True)
    order = torch.arange(12.0)[None]
    assert float(kendall(order, order)) == 1.0 and float(kendall(order, -order)) == -1.0
    assert math.isnan(float(kendall(order, torch.ones(1, 12))))


def values(value, noise=0.0, seed=0):
    draw = torch.Generator().manual_seed(seed)
    value = torch.as_tensor(value, dtype=torch.float64)
    resampled = value + noise * torch.randn(500, len(value), generator=draw)
    return ResampledChanges(Estimates(value, value, value, 10), resampled)


def test_agreement_and_its_interval():
    up = list(range(12))
    swapped = [1, 0, *range(2, 12)]
    other = [5, 1, 8, 3, 11, 0, 7, 2, 10, 4, 9, 6]
    found = compare_criteria({"a": values(up), "b": values(swapped), "c": values(other, 2.0)})
    by_pair = {pair.criteria: pair for pair in found.agreement}
    assert set(by_pair) == {("a", "b"), ("a", "c"), ("b", "c")}
    alike = by_pair["a", "b"]
    expected = kendalltau(up, swapped).statistic
    assert [alike.tau.value, alike.tau.low, alike.tau.high] == pytest.approx([expected] * 3)
    assert alike.p < 0.001 and by_pair["a", "c"].p > 0.05
    noisy = by_pair["a", "c"].tau
    assert -1 <= noisy.low < noisy.value < noisy.high <= 1 and noisy.n == 10
    assert found.by("a").critical == (9, 10, 11)
    assert found.by("a").importance.ranking == tuple(reversed(range(12)))
    assert found.by("a").inclusion.tolist() == [0.0] * 9 + [1.0] * 3
    assert float(found.by("c").inclusion.sum()) == pytest.approx(3)


def test_chance_agreement_is_uniform():
    """p of unrelated rankings of 8 layers: at most 5 % below .05."""
    draw = torch.Generator().manual_seed(0)
    small = 0
    for _ in range(100):
        a, b = torch.rand(2, 8, generator=draw).tolist()
        (pair,) = compare_criteria({"a": values(a), "b": values(b)}).agreement
        small += pair.p <= 0.05
    assert small <= 10


def test_edges_count_half_for_each_end(layout, make_scores):
    draw = torch.Generator().manual_seed(0)
    before = torch.randn(8, *layout.shape, generator=draw)
    after = before.clone()
    for name, change in (("a0.h1->m2", 4.0), ("input->a1.h0<q>", -2.0), ("m1->logits", 1.0)):
        row, column = layout.edge(name)
        after[:, row, column] += change
    found = edge_change(make_scores(layout, after), make_scores(layout, before), n_resamples=20)
    assert found.values.value.tolist() == pytest.approx([2.0, 1.5, 2.0], abs=1e-5)
    assert found.resampled.shape == (20, 3)
    assert torch.allclose(found.resampled, found.values.value.expand(20, 3), atol=1e-5)


def test_edge_scores_that_cannot_be_compared_are_refused(layout, make_scores):
    one = make_scores(layout, torch.ones(9, *layout.shape))
    other = Layout(n_layers=2, n_heads=2, n_kv_heads=1)
    with pytest.raises(CircuitsError, match=r"2 layers.*3 layers"):
        edge_change(one, make_scores(other, torch.ones(9, *other.shape)))
    with pytest.raises(CircuitsError, match=r"old and new were scored on different examples"):
        elsewhere = make_scores(layout, torch.ones(9, *layout.shape), fingerprint="others")
        edge_change(one, elsewhere, names=("new", "old"))
    with pytest.raises(CircuitsError, match="--per-example"):
        edge_change(one, replace(one, per_example=None))


def test_a_layer_that_did_not_change_is_not_critical():
    """Two of eight layers are asked for, and one of them changed."""
    changed = torch.eye(8)[7].expand(6, 8) * torch.rand(6, 1)
    found = ResampledChanges.of_means(changed, n_resamples=50, seed=0).summary("x", 2)
    assert found.critical == (7,) and found.inclusion.tolist() == [0.0] * 7 + [1.0]
    assert found.values.n == 6


@pytest.mark.parametrize("moved", [0.0, 0.05])
def test_intervals_of_the_change_of_edges_cover_its_own_mean(moved, make_scores):
    """Noise lifts a sum of absolute means. 40 samples: 95 % less three standard errors is 85 %."""
    layout = Layout(n_layers=4, n_heads=4, n_kv_heads=4)
    draw = torch.Generator().manual_seed(0)
    true = moved * torch.randn(layout.shape, generator=draw)
    nothing = make_scores(layout, torch.zeros(30, *layout.shape))
    found = []
    for _ in range(40):
        sample = true + 0.2 * torch.randn(30, *layout.shape, generator=draw)
        found.append(edge_change(make_scores(layout, sample), nothing, n_resamples=1).values)
    mean = torch.stack([one.value for one in found]).mean(dim=0)
    held = torch.stack([(one.low <= mean) & (mean <= one.high) for one in found]).double()
    assert float(mean.min()) > 1 and float(held.mean()) >= 0.9
    width = torch.stack([one.high - one.low for one in found]).mean(dim=0)
    right = 3.92 * torch.stack([one.value for one in found]).std(dim=0)
    assert float((width / right).mean()) < 1.5
