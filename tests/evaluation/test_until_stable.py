"""Scoring until circuits are stable: how many examples, and what happens on the way."""

from itertools import pairwise

import pytest
import torch

import tasks
from circuits.attribution import attribute, attribute_nodes
from circuits.attribution.dataset_scores import Growth
from circuits.errors import CircuitsError
from circuits.evaluation import reliability, until_stable
from circuits.models import HookedModel
from circuits.options.run import RunOptions


@pytest.fixture(scope="module")
def newsroom():
    return HookedModel.from_pretrained("newsroom-gpt2", device="cpu")


def test_grown_scores_are_those_of_the_pairs_at_once(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=23)
    asked = []

    def more(scores):
        asked.append((scores.provenance.data.n, scores.matrix.clone(), scores.blocks.examples))
        return {5: 12, 12: 19}.get(asked[-1][0], 0)

    how = {"steps": 2, "options": RunOptions(3), "per_example": False}
    grown = attribute(model, Growth(5, more).over(pairs), **how)
    assert [n for n, *_ in asked] == [n for *_, n in asked] == [5, 12, 19]
    for n, matrix, _ in asked:
        whole = attribute(model, pairs[:n], **how)
        assert float(whole.matrix.abs().max()) > 0
        torch.testing.assert_close(matrix, whole.matrix, atol=1e-6, rtol=1e-5)
    assert grown.provenance.data == whole.provenance.data
    assert grown.provenance.pairs == tuple(pairs[:19].fingerprints)
    assert grown.provenance.error.estimate == pytest.approx(
        whole.provenance.error.estimate, rel=1e-4
    )
    torch.testing.assert_close(grown.blocks.sums.sum(0), whole.blocks.sums.sum(0))
    assert grown.blocks.sizes.sum() == 19 and grown.blocks.sizes.min() >= 1


def test_points_that_differ_from_pair_to_pair_follow_the_place_in_the_whole(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=9)
    how = {"steps": 2, "quadrature": "staggered", "per_example": True}
    grown = attribute(model, Growth(4, lambda scores: 9).over(pairs), **how)
    whole = attribute(model, pairs, **how)
    assert float(whole.per_example[4:].abs().max()) > 0
    torch.testing.assert_close(grown.per_example, whole.per_example, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.exhaustive_but("False")
def test_it_stops_where_the_target_is_reached(per_example, newsroom):
    looks = []
    pairs = tasks.load("newsroom").pairs(newsroom.tokenizer, 60, n_ctx=newsroom.n_ctx)
    growth = until_stable(0.7, n_first=6, size=80, on_look=looks.append)
    scores = attribute(newsroom, growth.over(pairs), steps=1, per_example=per_example)
    n = scores.provenance.data.n
    assert looks[0].n == 6 and looks[-1].n == n < 60 and len(looks) > 1
    assert [one.reached for one in looks] == [*[False] * (len(looks) - 1), True]
    for one, other in pairwise(looks):
        assert 1.2 * one.n <= other.n <= 2 * one.n
    last = reliability(scores, size=80, target=0.7)
    assert last.likeness.value == pytest.approx(looks[-1].likeness.value)
    assert len(scores.per_example if per_example else range(n)) == n


def test_nodes_grow_too_by_a_ranking_chosen_once(hooked, random_pairs):
    model, pairs, chosen = hooked("gpt2"), random_pairs(n=20), []

    def choose(scores):
        chosen.append(scores.provenance.data.n)
        return "signed", None

    looks = []
    growth = until_stable(0.99, n_first=5, ranking=choose, on_look=looks.append)
    scores = attribute_nodes(model, growth.over(pairs), steps=1)
    assert chosen == [5] and {one.ranking for one in looks} == {"signed"}
    assert scores.provenance.data.n == looks[-1].n or len(pairs) == scores.provenance.data.n


@pytest.mark.parametrize(
    ("given", "message"),
    [({"target": 1.0}, "between 0 and 1"), ({"n_first": 3}, "takes at least 4")],
)
def test_what_cannot_be_asked(given, message):
    with pytest.raises(CircuitsError, match=message):
        until_stable(**given)
    with pytest.raises(CircuitsError, match="at least 1"):
        Growth(0, lambda scores: 1)
