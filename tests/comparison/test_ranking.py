import pytest
import torch
from scipy.stats import rankdata, spearmanr

from circuits.comparison import ranking
from circuits.comparison.ranking import Ranking

SIZES = (1, 7, 40, 41, 150)


def scores(edges=4000):
    """Heavy tails, and ties: of zeros, within a circuit, and at the ends of two."""
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(3, edges, generator=draw).pow(3)
    values[:, ::9] = 0.0
    values[0] = values[0].round(decimals=1)
    order = values[1].abs().argsort(descending=True)
    values[1, order[5:10]] = float(values[1, order[5]])
    values[1, order[39:42]] = -float(values[1, order[39]])
    values[2, 150:] = 0.0  # the largest circuit takes some of the zeros
    return values


@pytest.fixture(params=["sorted", "counted"])
def way(request, monkeypatch):
    if request.param == "counted":
        monkeypatch.setattr(ranking, "MOST_SORTED", 0)
    return request.param


def test_circuits_hold_the_largest_edges_the_first_of_equal_ones(way):
    values = scores()
    found = Ranking.of(values, SIZES)
    for row, value in enumerate(values):
        order = sorted(range(len(value)), key=lambda edge: (-abs(float(value[edge])), edge))
        expected = torch.full((len(value),), len(SIZES))
        for number, size in reversed(list(enumerate(SIZES))):
            expected[order[:size]] = number
            assert set(found.members[row, :size].tolist()) == set(order[:size])
        assert torch.equal(found.entry[row].long(), expected)
    assert found.members.shape == (3, SIZES[-1])
    assert (values[1].abs() == values[1].abs().sort(descending=True).values[40]).sum() == 3


def test_rank_correlation_is_scipys(way):
    values = scores(200_000)
    ranks = Ranking.of(values, SIZES).ranks
    one, other = values[0].abs(), (values[0] + 0.1 * values[1]).abs()
    theirs = Ranking.of(other[None], SIZES).ranks
    expected = spearmanr(one, other).statistic
    assert 0.5 < expected < 0.99
    assert float(ranks[0] @ theirs[0]) == pytest.approx(expected, abs=1e-7)
    assert float(ranks[2].square().sum()) == pytest.approx(1.0)
    assert float(ranks.sum()) == pytest.approx(0.0, abs=1e-9)


def test_counted_edges_have_the_ranks_of_rounded_scores(monkeypatch):
    monkeypatch.setattr(ranking, "MOST_SORTED", 0)
    values = scores()
    found = Ranking.of(values, SIZES).ranks
    mantissas, exponents = torch.frexp(values.abs())
    rounded = torch.ldexp((mantissas * 2**12).floor(), exponents)
    expected = torch.from_numpy(rankdata(rounded, axis=1))
    expected -= expected.mean(dim=1, keepdim=True)
    expected /= expected.norm(dim=1, keepdim=True)
    assert len(rounded[1].unique()) < len(values[1].unique())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_many_circuits_have_numbers_of_their_own(way):
    sizes = tuple(range(1, 301))
    found = Ranking.of(scores(), sizes)
    assert found.entry[1].unique().tolist() == list(range(301))
