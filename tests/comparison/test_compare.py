import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from oracles.touched_nodes import touched
from tqdm.auto import tqdm

from circuits.comparison import compare
from circuits.comparison.agreement import _Engine
from circuits.comparison.changes import Strengths, edge_changes, strength_changes, total_changes
from circuits.comparison.evolution import TOP, Evolution
from circuits.comparison.snapshot import SIZED, WHOLE
from circuits.comparison.turnover import EdgeNodes
from circuits.errors import CircuitsError
from circuits.graph import Circuit, EdgeScores, Layout, select
from circuits.graph.edge_values import EdgeValues
from circuits.options.run import RunOptions
from circuits.report import narrative
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
    assert not (one.edges.changed or one.node_strengths.changed or one.node_totals.changed)
    assert not one.changed and one.edges.risen == one.edges.fallen == 0
    assert float(one.edges.q.min()) == 1.0
    for similarity in (one.spearman, one.weighted_jaccard, *(at.edge_jaccard for at in one.sizes)):
        whole, gap = similarity.estimate, similarity.gap
        assert (whole.value, whole.low, whole.high) == pytest.approx((1.0, 1.0, 1.0))
        assert (gap.value, gap.low, gap.high) == (0.0, 0.0, 0.0)
        assert not similarity.below_ceiling
    assert math.isnan(one.sizes[0].rewired_share.estimate.value), "nothing turned over"
    assert "no change" in narrative.evolution(result)


def test_rounding_is_no_change(layout, base, make_scores):
    after = base * (1 + 1e-7)
    result = compare([make_scores(layout, base), make_scores(layout, after)], n_resamples=50)
    assert result.overall.identical
    assert "no change" in narrative.evolution(result)


def test_a_planted_edge_is_found_first(layout, base, make_scores):
    after = shifted(base, layout, "m0->m2")
    result = compare([make_scores(layout, base), make_scores(layout, after)], n_resamples=200)
    edges = result.overall.edges
    assert edges.changed[0] == "m0->m2"
    row = edges.row(edges.order()[0])
    assert row.name == "m0->m2" and row.after - row.before == pytest.approx(row.change.value)
    assert row.change.low < 1.5 < row.change.high and row.change.high - row.change.low < 0.2
    assert result.overall.node_totals.changed[0] == "m0"
    assert "m0->m2" in narrative.evolution(result)
    assert not result.overall.identical


def test_noise_without_change(layout, noisy, make_scores):
    """Two independent samples about the same means."""
    means = torch.randn(layout.shape, generator=torch.Generator().manual_seed(1))
    a, b = (make_scores(layout, noisy(layout, means, seed=seed)) for seed in (2, 3))
    one = compare([a, b], n_resamples=200).overall
    assert not one.edges.changed
    assert one.variance.p > 0.05
    assert not one.variance.significant and not one.changed
    assert "no change beyond noise" in narrative.comparison(one)
    gaps = [getattr(size, name).gap for size in one.sizes for name in SIZED]
    beyond = [gap for gap in gaps if gap.excludes_zero]
    assert len(gaps) == 30 and len(beyond) <= 3  # of 95 % intervals


def test_a_change_of_a_node_alone_is_told(layout, noisy, make_scores):
    """Spread thin over the edges of m0, it shows in their sum and in no edge."""
    base = noisy(layout, torch.randn(layout.shape, generator=torch.Generator().manual_seed(1)))
    after = noisy(layout, base, n=len(base), noise=1.5, seed=46)
    after[:, layout.sources.index("m0")] += 0.3
    one = compare([make_scores(layout, base), make_scores(layout, after)], n_resamples=200).overall
    assert not one.edges.changed and one.node_totals.changed == ("m0",) and one.variance.p > 0.05
    assert one.changed and (one.node_totals.risen, one.node_totals.fallen) == (1, 0)
    paragraph = narrative.comparison(one)
    assert "no change" not in paragraph and "The largest change is at the total of m0" in paragraph
    assert "no larger than with the checkpoints' labels swapped at random (p = " in paragraph
    assert "0 of 76 edges (0 rose, 0 fell), 1 of 10 node totals (1 rose, 0 fell)" in paragraph


def test_a_real_change_stands_out_from_the_noise_ceiling(layout, base, make_scores):
    draw = torch.Generator().manual_seed(4)
    after = base + 3 * torch.randn(layout.shape, generator=draw)
    one = compare([make_scores(layout, base), make_scores(layout, after)], n_resamples=100).overall
    size = one.sizes[-1]
    shared, node_driven, rewired = (
        getattr(size, name).estimate.value for name in ("edge_jaccard", "node_driven", "rewired")
    )
    assert size.edge_jaccard.below_ceiling and one.spearman.gap.high < 0
    assert shared < size.edge_jaccard.within
    assert narrative.verdict(size.edge_jaccard) == "less than noise alone explains"
    assert node_driven + rewired == pytest.approx(1 - shared) == size.turnover.value
    assert size.turnover.low == pytest.approx(1 - size.edge_jaccard.estimate.high)


def test_the_file_reopens_as_the_object(layout, base, make_scores, tmp_path):
    """Of the edges it keeps the 50 that changed most, and all others that changed."""
    draw = torch.Generator().manual_seed(4)
    after = base + 3 * torch.randn(layout.shape, generator=draw)
    scores = [make_scores(layout, side) for side in (base, after, after + base / 50)]
    found = compare(scores, names=["base", "step-1", "step-2"], n_resamples=100)
    again = Evolution.load(found.save(tmp_path / "comparison.json"))
    many, few = (again.between(*pair).edges for pair in (("base", "step-1"), ("step-1", "step-2")))
    assert len(many) == len(many.changed) > TOP == len(few) > len(few.changed)
    assert many.tested == few.tested == layout.n_edges
    for kept, pair in ((many, ("base", "step-1")), (few, ("step-1", "step-2"))):
        whole = found.between(*pair).edges
        assert kept.changed == whole.changed and kept.order() == list(range(len(kept)))
        assert (kept.risen, kept.fallen) == (whole.risen, whole.fallen)
        assert kept.row(0) == whole.row(whole.order()[0])
    assert again.layout == layout and again.training_steps == [0, 1, 2]
    assert again.to_json() == found.to_json()
    assert narrative.evolution(again) == narrative.evolution(found)


def test_circuits_are_those_of_select(layout, base, make_scores):
    after = base + torch.randn(layout.shape, generator=torch.Generator().manual_seed(4))
    scores = [make_scores(layout, base), make_scores(layout, after)]
    one = compare(scores, sizes=(10,), n_resamples=20).overall
    circuits = [select(each, size=10, strategy="top-n", prune=False) for each in scores]
    left, right = (set(each.edges) for each in circuits)
    nodes = [set(each.nodes) for each in circuits]
    size = one.sizes[0]
    shared, shared_nodes = size.edge_jaccard.estimate.value, size.node_jaccard.estimate.value
    assert shared == pytest.approx(len(left & right) / len(left | right))
    assert shared_nodes == pytest.approx(len(nodes[0] & nodes[1]) / len(nodes[0] | nodes[1]))


def test_chunks_leave_no_trace(layout, base, make_scores, monkeypatch):
    scores = [make_scores(layout, base), make_scores(layout, shifted(base, layout, "m0->m2"))]
    whole = compare(scores, n_resamples=30).overall
    monkeypatch.setattr("circuits.comparison.agreement._CHUNK", 7 * layout.n_edges)
    parts = compare(scores, n_resamples=30).overall
    pairs = [
        (whole.spearman, parts.spearman),
        (whole.weighted_jaccard, parts.weighted_jaccard),
        *(
            (getattr(one, name), getattr(other, name))
            for one, other in zip(whole.sizes, parts.sizes, strict=True)
            for name in SIZED
        ),
    ]
    for a, b in pairs:
        assert figures(a) == pytest.approx(figures(b), abs=1e-6, nan_ok=True)


def figures(similarity):
    """Every number of it."""
    parts = (similarity.estimate, similarity.gap, similarity.permuted)
    ours = [value for part in parts for value in (part.value, part.low, part.high)]
    return [*ours, similarity.between, similarity.within]


def test_swapped_labels_tell_a_change_from_none(layout, base, make_scores):
    draw = torch.Generator().manual_seed(4)
    noise = 0.5 * torch.randn(base.shape, generator=draw)
    moved = base + noise + 3 * torch.randn(layout.shape, generator=draw)
    for after, changed in ((base + noise, False), (moved, True)):
        scores = [make_scores(layout, base), make_scores(layout, after)]
        shared = compare(scores, n_resamples=20).overall.sizes[-1].edge_jaccard
        permuted = shared.permuted
        assert permuted.low <= permuted.value <= permuted.high
        assert (shared.estimate.value < permuted.low) == changed, shared


def test_swapped_labels_against_a_loop(layout, base, make_scores):
    """The scores of a flipped example change sides; a hundred flips, one by one."""
    after = base + torch.randn(layout.shape, generator=torch.Generator().manual_seed(4))
    values = [(side * layout.mask).float()[:, layout.mask] for side in (base, after)]
    held = [EdgeValues(layout, side) for side in values]
    engine = _Engine(held, [(0, 1)], (20,), EdgeNodes.of(layout), tqdm(disable=True))
    signs = sign_flips(len(base), 100, seed=0)
    found = engine.permuted(signs)[0, :, len(WHOLE)]  # edge_jaccard
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
    values, sizes = [EdgeValues(layout, side) for side in sides], (4, 12)
    engine = _Engine(values, [(0, 1)], sizes, EdgeNodes.of(layout), tqdm(disable=True))
    halves = subset_weights(len(base), 30, seed=0)
    presence = engine.no_node()
    engine.run(halves, presence=presence)
    freedom_of_all = engine.freedom(presence / 30)[0]
    found = freedom_of_all[len(WHOLE) :].unflatten(0, (len(sizes), len(SIZED)))
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
    assert (freedom_of_all[: len(WHOLE)] == math.inf).all()


def test_a_gap_in_what_is_said_of_nodes_has_their_freedom(layout, base, make_scores, monkeypatch):
    scores = [make_scores(layout, side) for side in unsure(base, layout)]

    def widths():
        (sized,) = compare(scores, n_resamples=20, sizes=[10]).overall.sizes
        found = {name: getattr(sized, name) for name in SIZED}
        return {name: tuple(map(width, (one.estimate, one.gap))) for name, one in found.items()}

    def width(estimate):
        return estimate.high - estimate.low

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
    assert [one.before for one in result.steps_between] == ["base", "100", "200"]
    assert narrative.evolution(result).count("From ") == 4
    with pytest.raises(CircuitsError, match="were not compared"):
        result.between("base", "200")


def test_equal_seeds_give_equal_results(layout, base, make_scores):
    scores = [make_scores(layout, base), make_scores(layout, shifted(base, layout, "m0->m2"))]
    first, second, other = (
        compare(scores, options=RunOptions(seed=seed), n_resamples=30).to_json()
        for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_tables_match_the_definitions(layout, base):
    after = shifted(base, layout, "m0->m2")
    x, y = (EdgeValues(layout, side) for side in (base, after))
    weights = resample_weights(len(x), 50, seed=0)
    edges = edge_changes(x, y, weights)
    nodes = strength_changes(layout, *(Strengths.of(side) for side in (x, y)))
    totals = total_changes(x, y, weights)
    masked = [(side * layout.mask).mean(dim=0) for side in (base, after)]
    place = edges.names.index("m0->m2")
    row, column = layout.edge("m0->m2")
    assert float(edges.before[place]) == pytest.approx(float(masked[0][row, column]), abs=1e-5)
    assert edges.change[place].value == pytest.approx(
        float((masked[1] - masked[0])[row, column]), abs=1e-4
    )
    for table, of in ((nodes, torch.abs), (totals, torch.clone)):
        for side, column_of in zip(masked, (table.before, table.after), strict=True):
            assert torch.allclose(of(side).sum(dim=1), column_of.float(), atol=1e-4)


def test_strengths_without_each_example_in_turn(layout, base, monkeypatch):
    values = EdgeValues(layout, base)
    monkeypatch.setattr("circuits.runtime.mapped.BLOCK", 7 * len(base))
    found = Strengths.of(values)
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
        compare(
            [scores, EdgeScores(scores.matrix, layout, "eap-ig", per_example=scores.per_example)]
        )
    with pytest.raises(CircuitsError, match="kept as a mean only"):
        compare([scores, EdgeScores(scores.matrix, layout, "eap-ig", scores.provenance)])
    with pytest.raises(CircuitsError, match="scored by eap-ig and checkpoint 1 by eap"):
        compare([scores, replace(scores, method="eap")])
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
            compare([scores.noting(**one), scores.noting(**other)])
        # Of some nothing is known.
        compare([scores.noting(**one), scores], n_resamples=20)
    forced = ({"settings": {"force": force}} for force in (True, False))
    compare([scores.noting(**one) for one in forced], n_resamples=20)
