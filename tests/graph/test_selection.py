"""The rules that order edges, each against the slow and obvious way to say the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.errors import CircuitsError
from circuits.graph import EdgeScores, Layout, edge_order, select
from circuits.graph.inlets import entries, needed
from circuits.graph.orders import ORDERS, sign_stability

SMALL = [Layout(2, 2, 2), Layout(2, 4, 2), Layout(2, 2, 1, parallel=True)]


def random_scores(layout, seed=0, examples=None):
    draw = torch.Generator().manual_seed(seed)
    if examples is None:
        return EdgeScores(torch.randn(layout.shape, generator=draw) * layout.mask, layout, "random")
    each = torch.randn(examples, *layout.shape, generator=draw) * layout.mask
    return EdgeScores(each.mean(0), layout, "random", per_example=each)


def all_paths(layout):
    """Every path from input to logits, edge by edge, by walking the graph."""

    def onward(row, column):
        for target in layout.feeds[column]:
            for next_column in range(layout.shape[1]):
                if layout.mask[target, next_column]:
                    yield from walk(target, next_column)

    def walk(row, column):
        if column == layout.logits_column:
            yield [(row, column)]
            return
        for rest in onward(row, column):
            yield [(row, column), *rest]

    for column in range(layout.shape[1]):
        yield from walk(0, column)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([Layout(1, 2, 2), Layout(2, 1, 1), Layout(1, 2, 1, parallel=True)]),
       st.sampled_from(["absolute", "signed"]), st.integers(0, 1000))  # fmt: skip
def test_paths_are_ordered_by_their_weakest_edge(layout, ranking, seed):
    scores = random_scores(layout, seed)
    worth = scores.matrix.abs() if ranking == "absolute" else scores.matrix
    best = torch.full(layout.shape, -torch.inf)
    for path in all_paths(layout):
        weakest = min(float(worth[place]) for place in path)
        for place in path:
            best[place] = max(float(best[place]), weakest)
    order = edge_order(scores, "widest-path", ranking)
    found = best.flatten()[order]
    assert sorted(order.tolist()) == layout.mask.flatten().nonzero().flatten().tolist()
    assert torch.isfinite(found).all() and (found[:-1] >= found[1:]).all()
    assert found[0] > found[-1]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SMALL), st.integers(0, 1000))
def test_whole_paths_leave_nothing_to_prune(layout, seed):
    """Wherever the order is cut, at most one path is unfinished."""
    scores = random_scores(layout, seed)
    for edges in range(1, layout.n_edges):
        kept = len(select(scores, size=edges, strategy="widest-path"))
        assert edges - 2 * layout.n_layers <= kept <= edges
    whole = select(scores, size=layout.n_edges, strategy="widest-path")
    assert len(whole) == layout.n_edges


@pytest.mark.parametrize("strategy", ORDERS)
@pytest.mark.parametrize("ranking", ["absolute", "signed", "mixed"])
def test_every_order_holds_every_edge_once(strategy, ranking):
    for layout in SMALL:
        scores = random_scores(layout, examples=6)
        positive_ratio = 0.7 if ranking == "mixed" else None
        order = edge_order(scores, strategy, ranking, positive_ratio=positive_ratio)
        assert sorted(order.tolist()) == layout.mask.flatten().nonzero().flatten().tolist()
        few = select(
            scores,
            size=5,
            strategy=strategy,
            ranking=ranking,
            positive_ratio=positive_ratio,
            prune=False,
        )
        more = select(
            scores,
            size=9,
            strategy=strategy,
            ranking=ranking,
            positive_ratio=positive_ratio,
            prune=False,
        )
        assert len(few) == 5 and len(more) == 9 and not (few.mask & ~more.mask).any()
        for first in (1, layout.n_edges // 3, layout.n_edges):
            fresh = random_scores(layout, examples=6)
            few = edge_order(fresh, strategy, ranking, positive_ratio=positive_ratio, first=first)
            assert torch.equal(few, order[:first]), first


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SMALL), st.integers(0, 1000), st.floats(0, 1), st.integers(1, 30))
def test_mixed_takes_its_share_from_the_signed_order(layout, seed, positive_ratio, edges):
    scores = random_scores(layout, seed)
    order = edge_order(scores, "top-n", "mixed", positive_ratio=positive_ratio)[:edges].tolist()
    signed = edge_order(scores, "top-n", "signed").tolist()
    absolute = edge_order(scores, "top-n", "absolute").tolist()
    due = int(-(-positive_ratio * edges // 1))
    assert set(signed[:due]) <= set(order)
    assert set(absolute[: edges - due]) <= set(order)


def test_mixed_ends_at_the_two_rankings():
    scores = random_scores(SMALL[1])
    for share, ranking in ((0.0, "absolute"), (1.0, "signed")):
        mixed = edge_order(scores, "widest-path", "mixed", positive_ratio=share)
        assert torch.equal(mixed, edge_order(scores, "widest-path", ranking))
    assert not torch.equal(
        edge_order(scores, "widest-path"), edge_order(scores, "widest-path", "signed")
    )


def inlet_scores(score):
    """All paths worth anything begin with one edge, whose score has the wrong sign."""
    layout = Layout(3, 2, 2)
    matrix = random_scores(layout, 1).matrix.abs()
    matrix[0] = 1e-3 * matrix[0]
    matrix[:, layout.mlp_column(0)] *= 1e-3
    matrix[layout.edge("input->m0")] = score
    matrix *= layout.mask
    return EdgeScores(matrix, layout, "planted")


@pytest.mark.parametrize(("ranking", "positive_ratio"), [("signed", None), ("mixed", 0.9)])
def test_a_signed_order_puts_in_the_edge_that_all_stand_on(ranking, positive_ratio):
    scores, strategy = inlet_scores(-4.0), "widest-path"
    how = {"size": 40, "strategy": strategy, "ranking": ranking, "positive_ratio": positive_ratio}
    circuit = select(scores, **how)
    assert "input->m0" in circuit.edges and circuit.provenance.selection.joined == ("input->m0",)
    assert "input->m0" not in select(inlet_scores(4.0), **how).provenance.selection.joined
    row, column = scores.layout.edge("input->m0")
    place = row * scores.layout.shape[1] + column
    assert place not in edge_order(scores, strategy, "signed")[:40].tolist()
    assert (
        edge_order(scores, strategy, "absolute").tolist()
        == edge_order(scores, strategy, "absolute", join=True).tolist()
    )


def test_needed_edges_are_those_that_half_of_the_score_is_behind():
    """Against adding up what has each negative edge on its best path."""
    found = set()
    for seed in range(60):
        layout = SMALL[seed % 3]
        matrix = random_scores(layout, seed).matrix
        entry, _ = entries(matrix.abs(), layout)
        sums = matrix.abs().sum(dim=1)

        def path(row, entry=entry):
            edges = []
            while row in entry:
                edges.append(entry[row])
                row = entry[row][0]
            return edges

        total = sum(float(sums[row]) for row in entry)
        expected = {
            edge
            for edge in set(entry.values())
            if matrix[edge] < 0
            and sum(float(sums[row]) for row in entry if edge in path(row)) >= total / 2
        }
        assert set(needed(matrix, layout)) == expected
        found |= expected
    assert found


def test_orders_are_kept_until_the_scores_change():
    scores = random_scores(SMALL[0])
    first = edge_order(scores)
    assert edge_order(scores) is first
    scores.matrix[scores.layout.edge("m0->logits")] = 99.0
    assert edge_order(scores)[0] != first[0] or edge_order(scores) is not first
    assert scores.layout.edge("m0->logits") in [
        divmod(place, scores.layout.shape[1]) for place in edge_order(scores)[:8].tolist()
    ]


def test_stable_puts_edges_with_a_sure_sign_first():
    layout = SMALL[0]
    draw = torch.Generator().manual_seed(0)
    each = 0.01 * torch.randn(30, *layout.shape, generator=draw) * layout.mask
    sure, large = layout.edge("m0->logits"), layout.edge("m1->logits")
    each[:, sure[0], sure[1]] += 0.5
    each[:, large[0], large[1]] = torch.tensor([6.0, -5.0]).repeat(15)  # mean .5 + noise, any sign
    each[0, large[0], large[1]] += 30
    scores = EdgeScores(each.mean(0), layout, "planted", per_example=each)
    assert scores.matrix[large] > scores.matrix[sure]
    assert select(scores, size=1, strategy="top-n", prune=False).mask[large]
    assert select(scores, size=1, strategy="stable", prune=False).mask[sure]
    shares = sign_stability(scores)
    assert shares[sure] == 1 and 0.5 < shares[large] < 0.95
    counted = [
        float(each[torch.randint(30, (30,), generator=draw), large[0], large[1]].mean() > 0)
        for _ in range(2000)
    ]
    assert float(shares[large]) == pytest.approx(sum(counted) / 2000, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"strategy": "best"},
            "unknown strategy 'best'; known: top-n, widest-path, greedy, stable",
        ),
        ({"ranking": "upside-down"}, "unknown ranking 'upside-down'; known: absolute, signed, mix"),
        ({"ranking": "mixed"}, 'ranking "mixed" takes a positive_ratio='),
        ({"positive_ratio": 0.5}, 'ranking "mixed" takes a positive_ratio='),
        ({"ranking": "mixed", "positive_ratio": 1.5}, "a positive_ratio= from 0 to 1"),
        ({"strategy": "stable"}, "needs per-example scores"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_refusals(arguments, message):
    with pytest.raises(CircuitsError, match=message):
        edge_order(random_scores(SMALL[0]), **arguments)
    with pytest.raises(CircuitsError, match=r"takes min_score=, and no size= or positive_ratio="):
        select(random_scores(SMALL[0]), strategy="threshold", min_score=0.1, positive_ratio=0.2)
