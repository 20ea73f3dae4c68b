"""How many examples it takes: against splits one by one, simulated draws and a model's scores."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from oracles.split_halves import spearman_brown

from circuits.attribution import attribute, attribute_nodes
from circuits.errors import CircuitsError
from circuits.evaluation import Reliability, reliability
from circuits.evaluation.likeness import jaccard_of, shared
from circuits.evaluation.sampling import Sample
from circuits.graph import EdgeScores, Layout, select
from circuits.graph.blocks import block_of, blocks_of_examples

LAYOUT = Layout(3, 4, 4)


def truth_and_spread(seed=0):
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randn(LAYOUT.shape, generator=draw) * torch.randn(LAYOUT.shape, generator=draw)
    return truth, 1.5 * truth.abs() ** 0.7 + 0.1


def scores_of(n, seed=0, spread=1.0):
    truth, deviation = truth_and_spread()
    draw = torch.Generator().manual_seed(100 + seed)
    each = truth + spread * deviation * torch.randn(n, *LAYOUT.shape, generator=draw)
    each = each * LAYOUT.mask
    return EdgeScores(each.mean(0), LAYOUT, "planted", per_example=each)


def likeness(a, b, **how):
    one, other = (select(scores, prune=False, **how).mask for scores in (a, b))
    return float((one & other).sum()) / float((one | other).sum())


@pytest.mark.parametrize("times", [1.0, 5.0])
def test_reliability_is_that_of_all_splits_in_halves(times):
    each = scores_of(8).per_example[:, LAYOUT.mask].double() + torch.arange(8.0)[:, None]
    sample = Sample.of(blocks_of_examples(each), torch.arange(each.shape[1]))
    by_hand = spearman_brown(each, times)
    assert 0.2 < by_hand < 0.99
    assert sample.reliability(8 * times) == pytest.approx(by_hand, abs=1e-5)


def test_errors_are_those_of_the_mean():
    each = scores_of(40).per_example[:, LAYOUT.mask].double()
    sample = Sample.of(blocks_of_examples(each, 40), torch.arange(each.shape[1]))
    torch.testing.assert_close(sample.error(40), each.std(dim=0) / math.sqrt(40))
    rest = sample.without(7)
    seventh = block_of(40, 40) == 7
    torch.testing.assert_close(rest.mean, each[~seventh].mean(dim=0))
    assert rest.examples == 39


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("size", [5, 60, 200])
def test_shared_edges_are_counted_in_draws(size, signed):
    draw = torch.Generator().manual_seed(1)
    means, errors = torch.randn(300, generator=draw), 0.05 + torch.rand(300, generator=draw)
    drawn = means + errors * torch.randn(400, 300, generator=draw)
    top = (drawn if signed else drawn.abs()).topk(size, dim=1).indices
    inside = torch.zeros(400, 300).scatter_(1, top, 1.0)
    counted = float((inside[0::2] * inside[1::2]).sum(dim=1).mean()) / size
    assert 0.1 < counted < 0.98
    assert shared(means, errors, size, signed=signed) == pytest.approx(counted, abs=0.02)
    assert shared(means, errors, 300, signed=signed) == 1
    assert shared(means, torch.zeros(300), size, signed=signed) == pytest.approx(1)


@pytest.mark.parametrize(
    "how",
    [
        {"strategy": "top-n"},
        {"strategy": "widest-path"},
        {"strategy": "top-n", "ranking": "signed"},
    ],
)
@pytest.mark.exhaustive_but("how0")
def test_as_many_and_more_new_examples_bring_what_was_said(how):
    """Held out: circuits of other draws, of as many examples and of as many as are said to do."""
    each = [reliability(scores_of(24, seed), size=20, **how) for seed in range(1, 7)]
    said = sum(one.likeness.value for one in each) / len(each)
    seeds = range(11, 21)

    def met(n):
        pairs = combinations([scores_of(n, seed) for seed in seeds], 2)
        return sum(likeness(a, b, size=20, **how) for a, b in pairs) / math.comb(len(seeds), 2)

    assert said == pytest.approx(met(24), abs=0.06)
    needed = sorted(one.needed.value for one in each)[len(each) // 2]
    assert met(needed) == pytest.approx(0.8, abs=0.06)
    for found in each:
        assert found.split_half_jaccard < found.likeness.value < 0.8
        assert found.likeness.low < found.likeness.value < found.likeness.high
        assert found.needed.low < found.needed.value < found.needed.high
        assert not found.reached and f"about {found.needed.value}" in found.takes
    assert sum(found.likeness.low < met(24) < found.likeness.high for found in each) >= 5


def test_the_error_of_sampling_is_that_of_the_truth():
    truth = truth_and_spread()[0][LAYOUT.mask]
    errors = []
    for seed in range(6):
        mean = scores_of(24, seed).matrix[LAYOUT.mask]
        errors.append(float((mean - truth).abs().sum() / truth.abs().sum()))
    met = sum(errors) / 6
    assert met > 0.05
    said = [reliability(scores_of(24, seed), size=20).sampling_error.value for seed in range(6)]
    assert sum(said) / 6 == pytest.approx(met, rel=0.15)


def test_equal_examples_leave_no_doubt():
    found = reliability(scores_of(9, spread=0.0), size=20)
    assert found.split_half_jaccard == 1 and found.reached
    assert found.scores.value == pytest.approx(1, abs=1e-5)
    assert found.sampling_error.value < 1e-5


def test_noise_alone_gives_no_foothold():
    draw = torch.Generator().manual_seed(0)
    each = torch.randn(16, *LAYOUT.shape, generator=draw) * LAYOUT.mask
    found = reliability(EdgeScores(each.mean(0), LAYOUT, "noise", per_example=each), size=5)
    assert found.needed is None and "too little to tell" in found.takes
    assert found.scores.low < 0.3


def test_blocks_are_even_and_grow():
    for n in (1, 15, 16, 33, 100):
        sizes = block_of(n).bincount(minlength=16)
        assert sizes.sum() == n and sizes.max() - sizes.min() <= 1
    assert torch.equal(block_of(100)[:40], block_of(40))
    assert not torch.equal(block_of(32)[:16], block_of(32)[16:])


def test_sums_over_blocks_do_as_well_as_single_examples(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=9)
    whole, kept = (attribute(model, pairs, steps=2, per_example=each) for each in (False, True))
    assert whole.per_example is None and kept.blocks is None
    assert torch.equal(whole.matrix, kept.matrix)
    of_sums, of_examples = (reliability(one, size=12) for one in (whole, kept))
    assert of_sums.n == 9 and of_sums.split_half_jaccard == pytest.approx(
        of_examples.split_half_jaccard
    )
    assert of_sums.scores.value == pytest.approx(of_examples.scores.value, abs=1e-4)
    assert of_sums.sampling_error.value == pytest.approx(of_examples.sampling_error.value, rel=1e-4)
    nodes = attribute_nodes(model, pairs, steps=2)
    assert reliability(nodes).level == "node" and float(nodes.values.abs().max()) > 0


def test_it_comes_back_from_json():
    found = reliability(scores_of(12), size=20)
    assert Reliability.model_validate(found.model_dump(mode="json")) == found


@pytest.mark.parametrize(
    ("scores", "given", "message"),
    [
        (scores_of(3), {}, r"3 examples: .* takes at least 4"),
        (replace(scores_of(9), per_example=None), {}, "score with per_example=True"),
        (scores_of(9), {"target": 1.0}, "target=1.0: a Jaccard index between 0 and 1"),
    ],
)
def test_what_cannot_be_told(scores, given, message):
    with pytest.raises(CircuitsError, match=message):
        reliability(scores, size=20, **given)


def test_jaccard_of_a_share():
    assert jaccard_of(0.5) == pytest.approx(1 / 3)
