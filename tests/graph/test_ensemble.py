"""Several scores as one, by hand."""

from dataclasses import replace

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.graph import EdgeScores, Layout, NodeScores, Provenance
from circuits.graph.ensemble import ensemble
from circuits.graph.provenance import DataRecord
from circuits.options.ensemble import EnsembleConfig

LAYOUT = Layout(2, 2, 2)


def scores(seed, scale=1.0, **made_from):
    draw = torch.randn(LAYOUT.shape, generator=torch.Generator().manual_seed(seed))
    return EdgeScores(draw * scale * LAYOUT.mask, LAYOUT, f"method {seed}", Provenance(**made_from))


def edges(one):
    return one.matrix[LAYOUT.mask].double()


def sized(one):
    return edges(one) / edges(one).abs().mean()


def test_the_mean_is_of_scores_over_their_size():
    one, other = scores(0), scores(1, scale=1e4)
    expected = 0.75 * sized(one) + 0.25 * sized(other)
    found = ensemble([one, other], [3.0, 1.0])
    assert torch.allclose(edges(found), expected, rtol=1e-5) and expected.abs().max() > 1
    assert not found.matrix[~LAYOUT.mask].any()
    assert torch.allclose(found.matrix, ensemble([one, other], [0.3, 0.1]).matrix)
    assert torch.allclose(edges(ensemble([one, other])), (sized(one) + sized(other)) / 2, rtol=1e-5)


@pytest.mark.parametrize("reduction", ["max", "min"])
def test_the_largest_and_the_smallest_keep_their_sign(reduction):
    members = [scores(seed) for seed in range(3)]
    found = edges(ensemble(members, config=EnsembleConfig(reduction=reduction)))
    each = torch.stack([sized(one) for one in members]) / 3
    pick = max if reduction == "max" else min
    expected = [pick(column.tolist(), key=abs) for column in each.T]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert {value > 0 for value in expected} == {True, False}


def test_ranks_run_from_one_to_nothing_with_the_scores_sign():
    one, other = scores(0), scores(1)
    found = edges(ensemble([one, other], [1.0, 0.0], EnsembleConfig(scale="rank")))
    order = edges(one).abs().argsort()
    n = len(order)
    assert found.abs()[order].tolist() == pytest.approx([place / (n - 1) for place in range(n)])
    assert torch.equal(found[order[1:]].sign(), edges(one)[order[1:]].sign())


def test_nodes_and_what_the_ensemble_is_made_from():
    data = DataRecord(task="ioi", split="test", n=2, fingerprint="x")
    units = (1,) * len(LAYOUT.sources)
    values = torch.arange(1.0, len(units) + 1)
    first = NodeScores(values, LAYOUT, units, "a", Provenance(metric="m", data=data, pairs=("p",)))
    second = replace(
        first,
        values=values.flip(0),
        method="b",
        provenance=Provenance(metric="other", data=data, pairs=("q", "p")),
    )
    found = ensemble([first, second], [1.0, 3.0])
    middle = len(values) // 2
    assert found.values[0] > found.values[middle] > found.values[-1] > 0
    made = found.provenance
    assert (made.data, made.metric, made.pairs) == (data, None, ("p", "q"))
    assert made.settings["member_2"] == "b x 0.75" and found.method == "ensemble"


def test_what_does_not_go_together_is_refused():
    one = scores(0)
    other = Layout(3, 2, 2)
    deeper = EdgeScores(torch.ones(other.shape) * other.mask, other, "m")
    nothing = EdgeScores(torch.zeros(LAYOUT.shape), LAYOUT, "silent")
    nodes = NodeScores(torch.ones(len(LAYOUT.sources)), LAYOUT, (1,) * len(LAYOUT.sources), "n")
    cases = [
        (([one],), "an ensemble of 1; give two"),
        (([one, deeper],), "member 2 is of edges of"),
        (([one, nodes],), "member 2 is of nodes of"),
        (([one, nothing],), "scores by silent are all 0"),
        (([one, one], [1.0]), "1 weights for 2 members"),
        (([one, one], [1.0, -1.0]), "each must be 0 or more"),
        (([one, one], [0.0, 0.0]), "each must be 0 or more"),
        (([one, one], [0.0, 1.0], EnsembleConfig(reduction="min")), "takes weights above 0"),
    ]
    for arguments, message in cases:
        with pytest.raises(CircuitsError, match=message):
            ensemble(*arguments)
