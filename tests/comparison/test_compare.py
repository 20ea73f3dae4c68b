import json
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from oracles.touched_nodes import touched
from tqdm.auto import tqdm

from circuits.comparison import compare
from circuits.comparison.agreement import SIZED, WHOLE, _Engine
from circuits.comparison.changes import Strengths, edge_changes, strength_changes, total_changes
from circuits.comparison.turnover import Ends
from circuits.errors import CircuitsError
from circuits.graph import Circuit, EdgeScores, Layout, select
from circuits.statistics import (
    resample_weights,
    sign_flips,
    student_quantile,
    subset_weights,
)


@pytest.fixture(scope="module")
def base(layout, noisy):
    means = 2 * torch.randn(layout.shape, generator=torch.Generator().manual_seed(1)) ** 3
    return noisy(layout, means)


def shifted(base, layout, *edges, by=1.5, noise=0.1):
    draw = torch.Generator().manual_seed(9)
    after = base + noise * torch.randn(base.shape, generator=draw)
    for edge in edges:
        row, column = layout.edge(edge)
        after[:, row, column] += by
    return after


def test_a_checkpoint_against_itself_has_not_changed(layout, base, make_scores):
    result = compare([make_scores(layout, base), make_scores(layout, base)], n_resamples=100)
    one = result.overall
    assert one.identical
    assert not one.edges.changed and not one.nodes.changed and not one.totals.changed
    assert float(one.edges.q.min()) == 1.0
    for measure in (one.spearman, one.overlap, *(size.edge_jaccard for size in one.sizes)):
        assert (measure.value, measure.low, measure.high) == pytest.approx((1.0, 1.0, 1.0))
        assert (measure.gap, measure.gap_low, measure.gap_high) == (0.0, 0.0, 0.0)
    assert "no change" in result.paragraph()
    json.dumps(result.to_dict(), allow_nan=False)


def test_rounding_is_no_change(layout, base, make_scores):
    after = base * (1 + 1e-7)
    result = compare([make_scores(layout, base), make_scores(layout, after)], n_resamples=50)
    assert result.overall.identical
    assert "no change" in result.paragraph()


def test_a_planted_edge_is_found_first(layout, base, make_scores):
    after = shifted(base, layout, "m0->m2")
    result = compare([make_scores(layout, base), make_scores(layout, after)], n_resamples=200)
    edges = result.overall.edges
    assert edges.changed[0] == "m0->m2"
    row = edges.to_dict()["rows"][0]
    assert row["low"] < 1.5 < row["high"] and row["high"] - row["low"] < 0.2
    assert result.overall.totals.changed[0] == "m0"
    assert "m0->m2" in result.paragraph()
    assert not result.overall.identical


def test_noise_without_change(layout, noisy, make_scores):
    """Two independent samples about the same means."""
    means = torch.randn(layout.shape, generator=torch.Generator().manual_seed(1))
    a, b = (make_scores(layout, noisy(layout, means, seed=seed)) for seed in (2, 3))
    one = compare([a, b], n_resamples=200).overall
    assert not one.edges.changed
    assert one.variance.p > 0.05
    assert "no change beyond noise" in one.paragraph()
    gaps = [getattr(size, name) for size in one.sizes for name in SIZED]
    beyond = [gap for gap in gaps if gap.gap_low > 0 or gap.gap_high < 0]
    assert len(gaps) == 30 and len(beyond) <= 3  # of 95 % intervals


def test_a_change_of_a_node_alone_is_told(layout, noisy, make_scores):
    """Spread thin over the edges of m0, it shows in their sum and in no edge."""
    base = noisy(layout, torch.randn(layout.shape, generator=torch.Generator().manual_seed(1)))
    after = noisy(layout, base, n=len(base), noise=1.5, seed=46)
    after[:, layout.sources.index("m0")] += 0.3
    one = compare([make_scores(layout, base), make_scores(layout, after)], n_resamples=200).overall
    assert not one.edges.changed and one.totals.changed == ("m0",) and one.variance.p > 0.05
    paragraph = one.paragraph()
    assert "no change" not in paragraph and "The largest change is at the total of m0" in paragraph
    assert "no larger than with the checkpoints' labels swapped at random (p = " in paragraph
    assert "0 of 76 edges (0 rose, 0 fell), 1 of 10 node totals (1 rose, 0 fell)" in paragraph


def test_a_real_change_stands_out_from_the_noise_ceiling(layout, base, make_scores):
    draw = torch.Generator().manual_seed(4)
    after = base + 3 * torch.randn(layout.shape, generator=draw)
    one = compare([make_scores(layout, base), make_scores(layout, after)], n_resamples=100).overall
    size = one.sizes[-1]
    assert size.edge_jaccard.gap_high < 0 and one.spearman.gap_high < 0
    assert size.edge_jaccard.value < size.edge_jaccard.noise
    edges = one.to_dict()["edges"]
    assert edges["changed"] == len(edges["rows"]) > 50, "every edge that changed is written"
    assert size.node_driven.value + size.rewired.value == pytest.approx(1 - size.edge_jaccard.value)


def test_circuits_are_those_of_select(layout, base, make_scores):
    after = base + torch.randn(layout.shape, generator=torch.Generator().manual_seed(4))
    scores = [make_scores(layout, base), make_scores(layout, after)]
    one = compare(scores, sizes=(10,), n_resamples=20).overall
    circuits = [select(each, size=10, strategy="top-n", prune=False) for each in scores]
    left, right = (set(each.edges) for each in circuits)
    nodes = [set(each.nodes) for each in circuits]
    size = one.sizes[0]
    assert size.edge_jaccard.value == pytest.approx(len(left & right) / len(left | right))
    assert size.node_jaccard.value == pytest.approx(
        len(nodes[0] & nodes[1]) / len(nodes[0] | nodes[1])
    )


def test_chunks_leave_no_trace(layout, base, make_scores, monkeypatch):
    scores = [make_scores(layout, base), make_scores(layout, shifted(base, layout, "m0->m2"))]
    whole = compare(scores, n_resamples=30).overall
    monkeypatch.setattr("circuits.comparison.agreement._CHUNK", 7 * layout.n_edges)
    parts = compare(scores, n_resamples=30).overall
    for a, b in [(whole.spearman, parts.spearman), (whole.overlap, parts.overlap)]:
        assert tuple(vars(a).values()) == pytest.approx(tuple(vars(b).values()), abs=1e-6)
    for one, other in zip(whole.sizes, parts.sizes, strict=True):
        for name in SIZED:
            a, b = (tuple(vars(getattr(side, name)).values()) for side in (one, other))
            assert a == pytest.approx(b, abs=1e-6, nan_ok=True)


def test_swapped_labels_tell_a_change_from_none(layout, base, make_scores):
    draw = torch.Generator().manual_seed(4)
    noise = 0.5 * torch.randn(base.shape, generator=draw)
    moved = base + noise + 3 * torch.randn(layout.shape, generator=draw)
    for after, changed in ((base + noise, False), (moved, True)):
        scores = [make_scores(layout, base), make_scores(layout, after)]
        shared = compare(scores, n_resamples=20).overall.sizes[-1].edge_jaccard
        assert shared.permuted_low <= shared.permuted <= shared.permuted_high
        assert (shared.value < shared.permuted_low) == changed, shared


def test_swapped_labels_against_a_loop(layout, base, make_scores):
    """The scores of a flipped example change sides; a hundred flips, one by one."""
    after = base + torch.randn(layout.shape, generator=torch.Generator().manual_seed(4))
    values = [(side * layout.mask).float()[:, layout.mask] for side in (base, after)]
    engine = _Engine(values, [(0, 1)], (20,), Ends.of(layout), tqdm(disable=True))
    signs = sign_flips(len(base), 100, seed=0)
    found = engine.permuted(signs)[0, :, WHOLE.index("overlap") + 1]  # edge_jaccard
    for row, sign in enumerate(signs):
        swap = (sign < 0)[:, None]
        first, second = torch.where(swap, values[1], values[0]), torch.where(swap, *values)
        tops = [set(side.mean(0).abs().topk(20).indices.tolist()) for side in (first, second)]
        expected = len(tops[0] & tops[1]) / len(tops[0] | tops[1])
        assert float(found[row]) == pytest.approx(expected), row
    assert len(set(found.tolist())) > 2


def unsure(base, layout):
    """Two checkpoints whose circuits change from half to half."""
    draw = torch.Generator().manual_seed(4)
    before = base + 12 * torch.randn(base.shape, generator=draw)
    after = before + 3 * torch.randn(base.shape, generator=draw)
    return before, after + torch.randn(layout.shape, generator=draw)


def test_freedom_counts_the_nodes_that_are_in_some_halves_only(layout, base):
    """By names, half by half; what is said of edges has no such bound."""
    sides = [(side * layout.mask).float() for side in unsure(base, layout)]
    values, sizes = [side[:, layout.mask] for side in sides], (4, 12)
    engine = _Engine(values, [(0, 1)], sizes, Ends.of(layout), tqdm(disable=True))
    halves = subset_weights(len(base), 30, seed=0)
    found = engine.freedom(halves)[0, len(WHOLE) :].unflatten(0, (len(sizes), len(SIZED)))
    for row, size in zip(found, sizes, strict=True):
        counts = [Counter(), Counter()]
        for count, side in zip(counts, sides, strict=True):
            for half in halves > 0:
                top = side[half].mean(dim=0).abs().flatten().topk(size).indices
                mask = torch.zeros(layout.shape, dtype=torch.bool)
                mask.view(-1)[top] = True
                count.update(touched(Circuit(layout, mask)))
        terms = [n / 30 * (1 - n / 30) for count in counts for n in count.values()]
        expected = 2 * sum(terms) ** 2 / sum(v * v for v in terms)
        assert 2 < expected < 20
        for name, freedom in zip(SIZED, row.tolist(), strict=True):
            of_nodes = name in ("node_jaccard", "node_driven", "rewired_share")
            assert freedom == pytest.approx(expected if of_nodes else math.inf, rel=1e-5)
    assert (engine.freedom(halves)[0, : len(WHOLE)] == math.inf).all()


def test_a_gap_in_what_is_said_of_nodes_has_their_freedom(layout, base, make_scores, monkeypatch):
    scores = [make_scores(layout, side) for side in unsure(base, layout)]

    def widths():
        (sized,) = compare(scores, n_resamples=20, sizes=[10]).overall.sizes
        found = {name: getattr(sized, name) for name in SIZED}
        return {n: (one.high - one.low, one.gap_high - one.gap_low) for n, one in found.items()}

    of_nodes = ("node_jaccard", "node_driven", "rewired_share")
    quantile = dict.fromkeys(SIZED, student_quantile(0.95, 2 * (len(base) - 1)))
    quantile |= dict.fromkeys(of_nodes, student_quantile(0.95, 3))
    found = []
    for nodes in (3.0, math.inf):
        given = [math.inf] * len(WHOLE)
        given += [nodes if name in of_nodes else math.inf for name in SIZED]
        row = torch.tensor([given])
        monkeypatch.setattr(_Engine, "freedom", lambda *_, row=row: row)
        found.append(widths())
    few, many = found
    for name in SIZED:
        assert few[name][0] == many[name][0] and many[name][1] > 0, name
        expected = quantile[name] / student_quantile(0.95, 2 * (len(base) - 1))
        assert few[name][1] / many[name][1] == pytest.approx(expected, rel=1e-3), name


def test_compared_checkpoints_and_their_names(layout, base, make_scores):
    scores = [make_scores(layout, shifted(base, layout, "m0->m2", by=by)) for by in (0, 1, 2, 3)]
    result = compare(scores, names=["base", "100", "200", "300"], n_resamples=20)
    assert [(one.before, one.after) for one in result.comparisons] == [
        ("base", "100"),
        ("100", "200"),
        ("200", "300"),
        ("base", "300"),
        ("100", "300"),
    ]
    assert result.overall.edges.changed[0] == "m0->m2"
    assert result.paragraph().count("From ") == 4
    with pytest.raises(CircuitsError, match="were not compared"):
        result.between("base", "200")


def test_equal_seeds_give_equal_results(layout, base, make_scores):
    scores = [make_scores(layout, base), make_scores(layout, shifted(base, layout, "m0->m2"))]
    first, second, other = (
        compare(scores, seed=seed, n_resamples=30).to_dict() for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_tables_match_the_definitions(layout, base):
    after = shifted(base, layout, "m0->m2")
    x, y = base[:, layout.mask], after[:, layout.mask]
    weights = resample_weights(len(x), 50, seed=0)
    edges = edge_changes(layout, x, y, weights)
    nodes = strength_changes(layout, *(Strengths.of(layout, side) for side in (x, y)))
    totals = total_changes(layout, x, y, weights)
    masked = [(side * layout.mask).mean(dim=0) for side in (base, after)]
    place = edges.names.index("m0->m2")
    row, column = layout.edge("m0->m2")
    assert float(edges.before[place]) == pytest.approx(float(masked[0][row, column]), abs=1e-5)
    assert float(edges.change[place]) == pytest.approx(
        float((masked[1] - masked[0])[row, column]), abs=1e-4
    )
    for table, of in ((nodes, torch.abs), (totals, torch.clone)):
        for side, column_of in zip(masked, (table.before, table.after), strict=True):
            assert torch.allclose(of(side).sum(dim=1), column_of.float(), atol=1e-4)


def test_strengths_without_each_example_in_turn(layout, base, monkeypatch):
    values = base[:, layout.mask]
    monkeypatch.setattr("circuits.comparison.changes._CHUNK", 3 * layout.n_edges)
    found = Strengths.of(layout, values)
    for place in range(len(values)):
        others = torch.cat([base[:place], base[place + 1 :]]) * layout.mask
        expected = others.mean(dim=0).abs().sum(dim=1)
        assert torch.allclose(found.left_out[place].float(), expected, rtol=1e-4), place
    assert float((found.left_out - found.value).abs().max()) > 0.01


def test_refusals(layout, base, make_scores):
    scores = make_scores(layout, base)
    other = Layout(2, 2, 1)
    small = make_scores(other, torch.randn(40, *other.shape))
    with pytest.raises(CircuitsError, match=r"3 layers.*\(10 x 16\).*2 layers.*\(7 x 11\)"):
        compare([scores, small])
    with pytest.raises(CircuitsError, match="different examples"):
        compare([scores, make_scores(layout, base, fingerprint="others")])
    with pytest.raises(CircuitsError, match="do not say which examples"):
        compare([scores, EdgeScores(scores.matrix, layout, "eap-ig", {}, scores.per_example)])
    with pytest.raises(CircuitsError, match="kept as a mean only"):
        compare([scores, EdgeScores(scores.matrix, layout, "eap-ig", scores.details)])
    with pytest.raises(CircuitsError, match="scored by eap-ig and checkpoint 1 by eap"):
        compare(
            [scores, EdgeScores(scores.matrix, layout, "eap", scores.details, scores.per_example)]
        )
    with pytest.raises(CircuitsError, match="at least two"):
        compare([scores])
    with pytest.raises(CircuitsError, match="3 examples; resampling needs at least 8"):
        compare([make_scores(layout, base[:3])] * 2)
    with pytest.raises(CircuitsError, match="share a name"):
        compare([scores, scores], names=["a", "a"])
    with pytest.raises(CircuitsError, match="1 names for 2"):
        compare([scores, scores], names=["a"])
    for sizes in ((0,), (10_000,), (1.5,), ()):
        with pytest.raises(CircuitsError, match="size"):
            compare([scores, scores], sizes=sizes)


def made(scores, **details):
    return replace(scores, details={**scores.details, **details})


def test_scores_made_in_other_ways_are_refused(layout, base, make_scores):
    scores = make_scores(layout, base)
    left = {"steps": 5, "quadrature": "left"}
    for one, other, message in (
        ({"metric": "nll"}, {"metric": "kl"}, "0 and checkpoint 1 .* different metric, nll and kl"),
        ({"settings": {"steps": 1}}, {"settings": {"steps": 8}}, "different steps, 1 and 8"),
        (
            {"settings": left},
            {"settings": {**left, "quadrature": "midpoint"}},
            "different quadrature, left and midpoint",
        ),
    ):
        with pytest.raises(CircuitsError, match=message):
            compare([made(scores, **one), made(scores, **other)])
        # Of older files nothing is known.
        compare([made(scores, **one), scores], n_resamples=20)
    forced = ({"settings": {"force": force}} for force in (True, False))
    compare([made(scores, **one) for one in forced], n_resamples=20)
