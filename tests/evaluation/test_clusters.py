"""Groups of prompts by the scores of single examples: planted ones, and none."""

import itertools

import pytest
import torch

from circuits.evaluation import ClustersConfig, clusters
from circuits.statistics import generator


def planted(layout, make_scores, kinds, noise=0.5, n=24, seed=0):
    """Scores around as many centres as there are kinds."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(kinds, *layout.shape, generator=draw)
    own = torch.arange(n) % kinds
    strength = 0.5 + torch.rand(n, 1, 1, generator=draw)
    spread = torch.randn(n, *layout.shape, generator=draw)
    return make_scores(layout, strength * (centres[own] + noise * spread)), own


def test_two_kinds_of_prompts_are_told_apart_and_one_is_not_cut(layout, make_scores):
    scores, own = planted(layout, make_scores, 2)
    found = clusters(scores)
    assert found.has_groups and found.p == pytest.approx(1 / 100) and found.within < found.expected
    groups = torch.tensor(found.groups)
    assert groups.equal(own) or groups.equal(1 - own)
    assert found.sizes == (12, 12) and len(found.telling) == 5
    name, first, second = found.telling[0]
    unit = scores.per_example.flatten(1) / scores.per_example.flatten(1).norm(dim=1, keepdim=True)
    column = unit.view_as(scores.per_example)[(slice(None), *layout.edge(name))]
    assert (first, second) == pytest.approx(
        [float(column[groups == group].mean()) for group in (0, 1)], rel=1e-5
    )
    one, _ = planted(layout, make_scores, 1)
    assert not clusters(one).has_groups
    outlier = one.per_example.clone()
    outlier[3] = 700 * torch.randn(layout.shape, generator=generator(9))
    assert not clusters(make_scores(layout, outlier)).has_groups, "one outlying example is no group"


def test_the_split_is_the_best_of_all(layout, make_scores):
    """All ways to cut ten examples in two of at least three, by their definition."""
    scores, _ = planted(layout, make_scores, 2, noise=2.0, n=10, seed=3)
    points = scores.per_example.flatten(1).double()
    points /= points.norm(dim=1, keepdim=True)

    def within(members):
        sides = [points[list(members)], points[[x for x in range(10) if x not in members]]]
        return sum(float((side - side.mean(dim=0)).square().sum()) for side in sides)

    cuts = [cut for size in (3, 4, 5) for cut in itertools.combinations(range(10), size)]
    total = float((points - points.mean(dim=0)).square().sum())
    found = clusters(scores, config=ClustersConfig(n_clouds=19))
    assert found.within == pytest.approx(min(map(within, cuts)) / total, rel=1e-6)


@pytest.mark.exhaustive
def test_one_cloud_is_cut_as_rarely_as_the_level_says(layout, make_scores):
    """Sample variances make the test a careful one: at most 5 % of clouds, heavy tails too."""
    hits = 0
    for seed in range(100):
        scores, _ = planted(layout, make_scores, 1, noise=2.0, n=20, seed=seed)
        values = scores.per_example.sign() * scores.per_example.abs() ** 1.5
        scores = make_scores(layout, values)
        hits += clusters(scores, config=ClustersConfig(n_clouds=39), seed=seed).has_groups
    assert hits <= 10
