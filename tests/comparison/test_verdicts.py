"""What the objects conclude from their intervals."""

import math

import pytest

from circuits.comparison.circuit_similarity import SimilarityEstimate
from circuits.comparison.variance import VarianceDecomposition, VarianceShare
from circuits.statistics.estimate import Estimate


def interval(low, high):
    return Estimate((low + high) / 2, low, high, 20)


@pytest.mark.parametrize(
    ("gap", "below"), [((-0.3, -0.1), True), ((-0.3, 0.1), False), ((0.1, 0.3), False)]
)
def test_below_the_noise_ceiling_is_a_gap_whose_whole_interval_is(gap, below):
    similarity = SimilarityEstimate(
        interval(0.4, 0.6), 0.5, 0.6, interval(*gap), interval(0.5, 0.7)
    )
    assert similarity.below_ceiling is below


@pytest.mark.parametrize(
    ("share", "chance", "expected"),
    [
        ((0.1, 0.2), (0.3, 0.5), "below"),
        ((0.1, 0.4), (0.3, 0.5), "within"),
        ((0.6, 0.7), (0.3, 0.5), "above"),
        ((math.nan, math.nan), (0.3, 0.5), None),
        ((0.6, 0.7), (math.nan, math.nan), None),
    ],
)
def test_a_share_beside_what_swapped_labels_give(share, chance, expected):
    assert VarianceShare(interval(*share), 0.5, 0.5, interval(*chance)).beside_chance == expected


@pytest.mark.parametrize(
    ("single_edges", "expected"),
    [
        ((0.6, 0.8), "edges"),
        ((0.1, 0.3), "nodes"),
        ((0.4, 0.6), None),
        ((math.nan, math.nan), None),
    ],
)
def test_what_most_of_the_variance_lies_in(single_edges, expected):
    source, single = (
        VarianceShare(interval(*ends), 0.5, 0.5, interval(0.3, 0.5))
        for ends in ((0.0, 1.0), single_edges)
    )
    assert VarianceDecomposition(source, source, single, 0.01, 0.1).mostly == expected


def test_a_change_stands_out_at_five_percent():
    share = VarianceShare(interval(0.1, 0.2), 0.5, 0.5, interval(0.3, 0.5))
    for p, significant in ((0.05, True), (0.051, False)):
        assert VarianceDecomposition(share, share, share, p, 0.1).significant is significant
