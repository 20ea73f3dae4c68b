"""Stability under resampling."""

from itertools import combinations

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.evaluation import stability
from circuits.graph import EdgeScores, Layout, select

LAYOUT = Layout(2, 4, 2)


def scores_of(noise, n=24, seed=0):
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randn(LAYOUT.shape, generator=draw)
    each = truth + noise * torch.randn(n, *LAYOUT.shape, generator=draw)
    each = each * LAYOUT.mask
    return EdgeScores(each.mean(0), LAYOUT, "planted", per_example=each)


@pytest.mark.parametrize("strategy", ["widest-path", "top-n"])
def test_resamples_are_as_alike_as_the_noise_lets_them(strategy):
    none, little, much = (
        stability(scores_of(noise), size=20, strategy=strategy, n_resamples=60)
        for noise in (0.0, 0.3, 20.0)
    )
    assert (
        none.resample_jaccard.value
        == none.split_half_jaccard.value
        == none.resample_jaccard.low
        == 1
    )
    assert none.n_stable == len(none.circuit) and set(none.frequencies.values()) == {1.0}
    assert 1 > little.resample_jaccard.value > much.resample_jaccard.value > much.control.value
    assert (
        little.resample_jaccard.value > little.split_half_jaccard.value
        and little.resample_jaccard.n == 24
    )
    assert all(
        one.resample_jaccard.low <= one.resample_jaccard.value <= one.resample_jaccard.high
        for one in (little, much)
    )


def test_frequencies_count_the_resamples():
    """Against circuits selected one by one from means taken by hand."""
    from circuits.statistics import resample_weights

    scores = scores_of(1.0)
    found = stability(scores, size=15, ranking="signed", n_resamples=25, seed=3)
    counts = {}
    for weights in resample_weights(24, 25, seed=3):
        mean = torch.einsum("n,nsr->sr", weights.float(), scores.per_example)
        for edge in select(EdgeScores(mean, LAYOUT, "x"), size=15, ranking="signed").edges:
            counts[edge] = counts.get(edge, 0) + 1
    assert {edge: round(25 * share) for edge, share in found.frequencies.items()} == counts
    assert len(set(counts.values())) > 3
    assert list(found.frequencies.values()) == sorted(found.frequencies.values(), reverse=True)
    assert found.chance == pytest.approx(sum(counts.values()) / 25 / LAYOUT.n_edges)
    assert found.n_stable == sum(counts.get(edge, 0) >= 24 for edge in found.circuit)


@pytest.mark.parametrize("strategy", ["widest-path", "top-n"])
@pytest.mark.parametrize("noise", [0.5, 1.5, 4.0])
@pytest.mark.exhaustive_but("1.5-widest-path")
def test_new_examples_give_a_likeness_between_halves_and_resamples(strategy, noise):
    """Draws from a known truth, 24 examples each; the truth's scores have a spread of 1."""
    truth = torch.randn(LAYOUT.shape, generator=torch.Generator().manual_seed(0))
    high, low, circuits = [], [], []
    for seed in range(14):
        draw = torch.Generator().manual_seed(seed)
        each = (truth + noise * torch.randn(24, *LAYOUT.shape, generator=draw)) * LAYOUT.mask
        scores = EdgeScores(each.mean(0), LAYOUT, "planted", per_example=each)
        found = stability(scores, size=20, strategy=strategy, n_resamples=12)
        circuits.append(set(found.circuit))
        high.append(found.resample_jaccard.value)
        low.append(found.split_half_jaccard.value)
    fresh = [
        len(one & other) / len(one | other) if one | other else 1.0
        for one, other in combinations(circuits, 2)
    ]
    assert mean(low) < mean(fresh) < mean(high)


def mean(values):
    return sum(values) / len(values)


def test_what_is_stable_is_of_the_circuits_own_edges():
    """An edge whose examples cancel is in nearly every resample, but not in the circuit."""
    edges = ["input->m0", "m0->logits", "input->m1", "m1->logits", "m0->m1"]
    each = torch.zeros(24, *LAYOUT.shape)
    for worth, edge in zip(range(5, 0, -1), edges, strict=True):
        each[(slice(None), *LAYOUT.edge(edge))] = worth
    each[(slice(None), *LAYOUT.edge("input->logits"))] = 100 * (torch.arange(24) - 11.5)
    scores = EdgeScores(each.mean(0), LAYOUT, "planted", per_example=each)
    found = stability(scores, size=5, strategy="top-n")
    assert set(found.circuit) == set(edges) and found.level == "edge"
    assert found.frequencies["input->logits"] >= 0.95 and found.frequencies["m0->m1"] < 0.05
    assert found.n_stable == 4


def test_the_stable_rule_can_be_resampled():
    found = stability(scores_of(1.0, n=8), size=10, strategy="stable", n_resamples=3)
    assert 0 < found.resample_jaccard.value <= 1


def test_an_unpruned_circuit_is_resampled_unpruned():
    scores = scores_of(1.0)
    circuit = select(scores, size=15, strategy="top-n", prune=False)
    assert len(circuit) > len(circuit.pruned())
    found = stability(scores, size=15, strategy="top-n", prune=False, n_resamples=5)
    assert found.circuit and set(found.circuit) == set(circuit.edges)
    assert found.chance == pytest.approx(15 / LAYOUT.n_edges)


@pytest.mark.parametrize("strategy", ["top-n", "stable"])
def test_the_control_is_selected_by_the_same_rule(strategy):
    """Against random scores selected from by hand, of which no sign is stabler than another."""
    scores = scores_of(0.5)
    found = stability(scores, size=40, strategy=strategy, n_resamples=150, seed=1)
    draw = torch.Generator().manual_seed(2)
    own = set(select(scores, size=40, strategy=strategy).edges)
    likeness = {"top-n": [], "widest-path": []}
    for _ in range(150):
        noise = EdgeScores(torch.rand(LAYOUT.shape, generator=draw) * LAYOUT.mask, LAYOUT, "random")
        for by, values in likeness.items():
            other = set(select(noise, size=40, strategy=by).edges)
            values.append(len(own & other) / len(own | other))
    right, wrong = mean(likeness["top-n"]), mean(likeness["widest-path"])
    assert abs(found.control.value - right) < abs(wrong - right) / 2


def test_refusals():
    scores = scores_of(1.0)
    bare = EdgeScores(scores.matrix, LAYOUT, "bare")
    with pytest.raises(CircuitsError, match="per_example=True"):
        stability(bare, size=5)
    with pytest.raises(CircuitsError, match="1 resamples: at least 2"):
        stability(scores, size=5, n_resamples=1)
