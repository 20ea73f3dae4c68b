import pytest
import torch
from scipy.stats import rankdata, spearmanr

from circuits.comparison.similarity import (
    correlation,
    inverse,
    order_by_size,
    sorted_ranks,
    unit_ranks,
    weighted_jaccard,
)


def ranks(values):
    return sorted_ranks(*values.sort(dim=-1))


def test_ranks_are_scipys_with_and_without_ties():
    values = torch.tensor([[3.0, 1.0, 3.0, 0.0, 3.0, 1.0], [5.0, 1.0, 4.0, 0.0, 3.0, 2.0]])
    assert ranks(values).tolist() == (rankdata(values, axis=1) - 1).tolist()
    assert ranks(values)[0].tolist() == [4.0, 1.5, 4.0, 0.0, 4.0, 1.5]


def test_rank_correlation_is_scipys_row_by_row():
    a, b = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0)).round(decimals=0)
    one, other = unit_ranks(ranks(a)), unit_ranks(ranks(b))
    expected = [spearmanr(a[row], b[row]).statistic for row in range(5)]
    assert correlation(one, other).tolist() == pytest.approx(expected, abs=1e-12)
    assert float(correlation(one[0], one[0])) == 1.0
    opposite = unit_ranks(ranks(-a[0]))
    assert float(correlation(one[0], opposite)) == pytest.approx(-1.0)


def jaccard(a, b, left_out=0.0):
    """left_out: what b has beside the members given."""
    scales = inverse(a.abs().sum()), inverse(b.abs().sum() + left_out)
    sides = (side.abs() * scale for side, scale in zip((a, b), scales, strict=True))
    return float(weighted_jaccard(*sides, *scales))


def test_weighted_jaccard_counts_by_size_and_ignores_scale():
    a, b = torch.tensor([1.0, -3.0, 0.0]), torch.tensor([2.0, 0.0, 2.0])
    # shares .25 .75 0 and .5 0 .5: shared .25, either .5 + .75 + .5
    assert jaccard(a, b) == pytest.approx(0.25 / 1.75)
    assert jaccard(a, -7 * a) == pytest.approx(1.0)
    zero = torch.zeros(3)
    assert jaccard(zero, zero) == 1.0
    assert jaccard(a, zero) == 0.0


def test_weighted_jaccard_of_parts_counts_the_rest_by_its_sum():
    a, b = torch.tensor([4.0, 3.0, 1.0]), torch.tensor([2.0, 5.0, 3.0])
    assert jaccard(a, b) == pytest.approx(0.7 / 1.3)  # lesser shares .2 .375 .125
    # shares .5 and 2 / 10
    assert jaccard(a, torch.tensor([2.0, 0.0, 0.0]), 8.0) == pytest.approx(0.2 / 1.8)


def test_order_by_size_is_a_stable_argsort():
    values = torch.randn(4, 300, generator=torch.Generator().manual_seed(0))
    values[:, ::7] = 0.0
    values[:, 1::7] = -1e-42  # subnormal
    values[:, 2::7] = values[:, 3:4]
    expected = values.abs().argsort(dim=-1, descending=True, stable=True)
    assert torch.equal(order_by_size(values), expected)
