"""Do the intervals hold what they say, on samples whose truth is known? Small; the full study is
scripts/check_statistics.py."""

import math

import pytest
import torch

from circuits.comparison.agreement import agreement
from circuits.comparison.changes import Strengths, edge_changes, strength_changes, total_changes
from circuits.comparison.snapshot import SIZED, WHOLE
from circuits.graph.edge_values import EdgeValues
from circuits.statistics import generator, resample_weights


def sample(layout, means, n, seed):
    """Heavy-tailed scores (a difference times a gradient); half of the variance is shared."""
    draw = generator(seed)
    shape = (2, 3, n, layout.n_edges)
    difference, gradient = torch.randn(shape, generator=draw, dtype=torch.float64)
    shared, *own = difference * gradient
    return [side + (shared + one) / math.sqrt(2) for side, one in zip(means, own, strict=True)]


@pytest.fixture(scope="module")
def means(layout):
    before, change = torch.randn(2, layout.n_edges, generator=generator(0), dtype=torch.float64)
    return before**3, before**3 + change


@pytest.mark.parametrize("count", [20, 60])
def test_changes_of_edges_and_nodes(layout, means, count):
    """60 samples of 131 independent edges, and of 10 nodes: 93-97 % and three standard errors."""
    true = torch.zeros(layout.shape, dtype=torch.float64)
    sizes = true.clone()
    true[layout.mask] = means[1] - means[0]
    sizes[layout.mask] = means[1].abs() - means[0].abs()
    covered = {"edges": [], "totals": [], "strengths": []}
    for seed in range(60):
        before, after = (EdgeValues(layout, side) for side in sample(layout, means, count, seed))
        weights = resample_weights(count, 200, seed=seed)
        strengths = [Strengths.of(side) for side in (before, after)]
        for name, table, truth in (
            ("edges", edge_changes(before, after, weights), true[layout.mask]),
            ("totals", total_changes(before, after, weights), true.sum(dim=1)),
            ("strengths", strength_changes(layout, *strengths), sizes.sum(dim=1)),
        ):
            covered[name].append((table.change.low <= truth) & (truth <= table.change.high))
    share = {name: float(torch.stack(rows).double().mean()) for name, rows in covered.items()}
    assert 0.93 <= share["edges"] <= 0.975, share
    for name in ("totals", "strengths"):
        assert 0.90 <= share[name] <= 0.99, share


def measured(layout, means, count, seed):
    sides = [EdgeValues(layout, side.float()) for side in sample(layout, means, count, seed)]
    (found,) = agreement(sides, [(0, 1)], sizes=(13, 40), seed=seed)
    names = [*WHOLE, *(f"{name} {size}" for size in (13, 40) for name in SIZED)]
    return dict(zip(names, found, strict=True))


@pytest.mark.exhaustive
def test_the_gap_to_the_noise_ceiling_is_nothing_where_nothing_changed(layout, means):
    """The true gap is 0: 40 samples, 95 % less three standard errors is 85 %."""
    found = [measured(layout, (means[0], means[0]), 30, seed) for seed in range(40)]
    for name in ("spearman", "weighted_jaccard", "edge_jaccard 13", "edge_jaccard 40"):
        gaps = [one[name].gap for one in found]
        held = sum(gap.low <= 0 <= gap.high for gap in gaps) / len(gaps)
        assert held >= 0.85, (name, held)
        middle = sum(gap.value for gap in gaps) / len(gaps)
        assert abs(middle) < 0.03, (name, middle)


@pytest.mark.exhaustive
def test_similarity_covers_its_own_mean(layout, means):
    """Of samples of 30; 50 of them, so three standard errors below 93 % is 82 %."""
    found = [measured(layout, means, 30, 100 + seed) for seed in range(50)]
    for name in ("spearman", "weighted_jaccard", "edge_jaccard 40", "weighted_jaccard 40"):
        values = [one[name].estimate for one in found]
        true = sum(value.value for value in values) / len(values)
        held = sum(value.low <= true <= value.high for value in values) / len(values)
        assert held >= 0.82, (name, held)
        right = 3.92 * torch.tensor([value.value for value in values]).std()
        width = torch.tensor([value.high - value.low for value in values]).mean()
        assert 0.75 <= float(width / right) <= 1.5, (name, float(width / right))
