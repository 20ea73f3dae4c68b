import math
from itertools import permutations

import pytest
import torch

from circuits.comparison.variance import (
    PARTS,
    decompose_variance,
    standard_error,
    sums_of_squares,
)
from circuits.graph import Layout
from circuits.graph.edge_values import EdgeValues


def slow_split(layout, change):
    """Shares of one change's variance, by least squares on indicator columns."""
    rows, columns = layout.mask.nonzero().T
    sources = torch.nn.functional.one_hot(rows, layout.shape[0]).double()
    readers = torch.nn.functional.one_hot(columns, layout.shape[1]).double()

    def explained(*effects):
        design = torch.cat([torch.ones(len(rows), 1, dtype=torch.float64), *effects], dim=1)
        fit = design @ torch.linalg.lstsq(design, change[:, None], driver="gelsd").solution
        return float((fit[:, 0] - change.mean()).square().sum())

    whole = float((change - change.mean()).square().sum())
    source, reader, both = explained(sources), explained(readers), explained(sources, readers)
    return [
        (source + both - reader) / 2 / whole,
        (reader + both - source) / 2 / whole,
        1 - both / whole,
    ]


def planted(layout, kind, seed=0):
    """A change made of source effects, reader effects, or single edges only."""
    draw = torch.Generator().manual_seed(seed)
    sources, readers = layout.shape
    made = {
        "source": torch.randn(sources, 1, generator=draw).expand(layout.shape),
        "reader": torch.randn(1, readers, generator=draw).expand(layout.shape),
        "interaction": torch.randn(layout.shape, generator=draw),
    }
    return made[kind][layout.mask]


def split(layout, change, noise, n=40, seed=0):
    draw = torch.Generator().manual_seed(seed)
    edges = layout.n_edges
    before = torch.randn(n, edges, generator=draw)
    after = before + change + noise * torch.randn(n, edges, generator=draw)
    sides = [EdgeValues(layout, side) for side in (before, after)]
    return decompose_variance(*sides, permutations=300, seed=2)


LAYOUTS = {
    "plain": Layout(2, 2, 2),
    "grouped": Layout(2, 4, 2),
    "parallel": Layout(2, 2, 2, parallel=True),
    "two streams": Layout(2, 2, 2, n_encoder_layers=2),
    "two streams and biases": Layout(2, 2, 2, n_encoder_layers=1, bias=True),
    "one head": Layout(1, 1, 1),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_observed_shares_match_least_squares(name):
    layout = LAYOUTS[name]
    draw = torch.Generator().manual_seed(3)
    before, after = torch.randn(2, 20, layout.n_edges, generator=draw).double()
    sides = [EdgeValues(layout, side) for side in (before, after)]
    found = decompose_variance(*sides, permutations=50, seed=0)
    expected = slow_split(layout, (after - before).mean(dim=0))
    for name, share in zip(PARTS, expected, strict=True):
        assert getattr(found, name).observed == pytest.approx(share, abs=1e-9)


def test_parts_add_up_to_the_whole(layout):
    values = torch.randn(6, layout.n_edges, generator=torch.Generator().manual_seed(0)).double()
    centred = values - values.mean(dim=1, keepdim=True)
    found = sums_of_squares(layout, EdgeValues(layout, values).blocks())
    assert torch.allclose(found.sum(dim=0), centred @ centred.T)


@pytest.mark.parametrize("kind", ["source", "reader"])
def test_planted_node_effects_leave_no_interaction(layout, kind):
    found = split(layout, planted(layout, kind), noise=0.5)
    assert found.p < 0.01 and found.significant
    assert found.mostly == "nodes" and found.interaction.beside_chance == "below"
    assert found.interaction.estimate.low <= 0.0 <= found.interaction.estimate.high + 0.02
    assert abs(found.interaction.estimate.value) < 0.05
    expected = slow_split(layout, planted(layout, kind).double())
    assert getattr(found, kind).estimate.value == pytest.approx(
        expected[PARTS.index(kind)], abs=0.05
    )
    # The noise that the corrected share leaves out is there in the observed one.
    assert found.interaction.observed > abs(found.interaction.estimate.value)


def test_planted_rewiring_is_interaction(layout):
    change = planted(layout, "interaction")
    found = split(layout, change, noise=1.0)
    true = slow_split(layout, change.double())
    for name, share in zip(PARTS, true, strict=True):
        assert getattr(found, name).estimate.value == pytest.approx(share, abs=0.06)
    assert 0 < found.noise_share < 0.2
    assert found.mostly == "edges" and found.interaction.beside_chance in ("above", "within")


def test_noise_is_split_like_noise(layout):
    """Independent noise: each part gets its degrees of freedom."""
    found = split(layout, torch.zeros(layout.n_edges), noise=1.0, n=60)
    assert found.p > 0.05
    assert math.isnan(found.source.estimate.value) and not found.significant
    assert found.mostly is None and found.interaction.beside_chance is None
    edges, (sources, readers) = layout.n_edges, layout.shape
    rest = (edges - sources - readers + 1) / (edges - 1)
    assert found.interaction.noise == pytest.approx(rest, abs=0.05)
    permuted = found.interaction.permuted
    assert permuted.value == pytest.approx(rest, abs=0.05)
    assert permuted.low < rest < permuted.high


def test_no_change_is_found_as_often_as_it_says(layout):
    """p <= .05 in about 5 % of samples without a change: at most 5 % + 3 standard errors of 200."""
    hits = sum(
        split(layout, torch.zeros(layout.n_edges), 1.0, n=20, seed=seed).p <= 0.05
        for seed in range(200)
    )
    assert hits / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_equal_checkpoints_have_nothing_to_split(layout):
    values = EdgeValues(layout, torch.randn(20, layout.n_edges))
    found = decompose_variance(values, values, permutations=50, seed=0)
    assert found.p == 1.0
    assert math.isnan(found.noise_share) and math.isnan(found.interaction.observed)


def test_intervals_cover_the_true_shares(layout):
    """200 samples: 95 % less three binomial standard errors is 90.4 %."""
    change = planted(layout, "interaction")
    true = slow_split(layout, change.double())
    covered = []
    for seed in range(200):
        found = split(layout, change, noise=1.0, seed=seed)
        parts = [getattr(found, name).estimate for name in PARTS]
        covered.append([one.low <= x <= one.high for one, x in zip(parts, true, strict=True)])
    shares = torch.tensor(covered).double().mean(dim=0)
    assert (shares >= 0.904).all() and (shares <= 0.99).all(), shares


def test_the_standard_error_is_the_unbiased_one_of_a_pair_statistic():
    """Against the mean of h(i, j) h(k, l) over every four distinct examples."""
    values = torch.randn(7, 4, 30, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    values += torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)[:, None]
    forms = torch.stack([one @ one.T for one in values.permute(1, 0, 2)])[:3]
    apart = forms - torch.diag_embed(forms.diagonal(dim1=1, dim2=2))
    shares = apart.sum(dim=(1, 2)) / apart.sum()
    h = apart - shares[:, None, None] * apart.sum(dim=0)
    apart_pairs = [h[:, i, j] * h[:, k, m] for i, j, k, m in permutations(range(7), 4)]
    total = apart.sum() / (7 * 6)
    variance = -torch.stack(apart_pairs).mean(dim=0) / total**2  # h's own mean is 0
    assert (variance > 0).all()  # and above the least that is taken
    assert torch.allclose(standard_error(apart, shares).square(), variance)


def test_the_standard_error_is_never_less_than_half_of_the_jackknifes_variance():
    """Examples hardly differ in what they add over all pairs: the unbiased variance is negative."""
    places = torch.arange(8)
    odd = (places[:, None] - places) % 2 == 1
    part = torch.where(odd, 1.0, -4 / 3).double() * (1 - torch.eye(8, dtype=torch.float64))
    part[0, 1] += 0.1
    part[1, 0] += 0.1
    apart = torch.stack([part, (1 - torch.eye(8, dtype=torch.float64)) - part])
    shares = apart.sum(dim=(1, 2)) / apart.sum()
    h = apart - shares[:, None, None] * apart.sum(dim=0)
    one_common, both_common = 4 * h.sum(dim=2).square().sum(dim=1), 2 * h.square().sum(dim=(1, 2))
    assert (one_common < both_common).all()
    least = one_common / 2 / (8 * 7 * 6 * 5) / (apart.sum() / (8 * 7)) ** 2
    assert (least > 0).all()
    assert torch.allclose(standard_error(apart, shares).square(), least)
