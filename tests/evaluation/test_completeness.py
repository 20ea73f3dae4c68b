"""Completeness against the oracle, set by set."""

import math
from dataclasses import replace

import pytest
from oracles.split_paths import SplitPaths

import circuits
from circuits.evaluation import Estimate, completeness, measure, minimality
from circuits.evaluation.measure import shares
from circuits.evaluation.units import units_inside, units_outside
from circuits.graph import Circuit, Layout, NodeCircuit, select, select_nodes
from circuits.graph.units import Units
from circuits.metrics import METRICS


def oracle_share(model, pairs, mask):
    view = model.view
    split = SplitPaths(model.hf, view.layout.n_heads, view.layout.n_kv_heads, view.d_head)
    totals = [0.0, 0.0, 0.0]
    for place in range(len(pairs)):
        batch = pairs.batch([place])
        runs = (
            split.run(batch.clean)[0],
            split.run(batch.corrupted)[0],
            split.execute(batch.clean, batch.corrupted, mask),
        )
        for at, logits in enumerate(runs):
            reads = logits[batch.example_index, batch.position]
            totals[at] += float(METRICS["logit-difference"](reads, batch)[0])
    return (totals[2] - totals[1]) / (totals[0] - totals[1])


@pytest.fixture(
    scope="module", params=[pytest.param("gpt2", marks=pytest.mark.exhaustive), "llama"]
)
def scored(request, hooked, random_pairs):
    model = hooked(request.param)
    return model, circuits.attribute(model, random_pairs(n=6, seed=1)), random_pairs(n=6, seed=2)


@pytest.mark.parametrize("unit", ["nodes", "edges"])
def test_every_gap_equals_the_oracle(scored, unit):
    model, scores, pairs = scored
    circuit = select(scores, size=scores.layout.n_edges // 4)
    found = completeness(model, circuit, pairs, unit=unit, sets=3, steps=2, candidates=3)
    assert found.searched == 3 and found.mean.n == 3
    units = units_inside(circuit, unit)
    reported = type(pairs)(pairs.pairs[::2], metric=pairs.metric)
    gaps = []
    for one in (*found.random, found.greedy):
        out = sum(units[name] for name in one.units).bool()
        kept = oracle_share(model, reported, circuit.mask & ~out)
        whole = oracle_share(model, reported, circuit.layout.mask & ~out)
        assert one.circuit.value == pytest.approx(kept, abs=2e-3)
        assert one.model.value == pytest.approx(whole, abs=2e-3)
        assert one.gap.value == pytest.approx(abs(kept - whole), abs=4e-3)
        gaps.append(one.gap.value)
    assert found.mean.value == pytest.approx(sum(gaps[:-1]) / 3, abs=1e-6)
    assert max(gaps) > 0.01, "nothing was told apart"
    sizes = [len(one.units) for one in found.random]
    assert sizes[0] == 1 and sizes[-1] == len(units) // 2 and len(found.greedy.units) in (1, 2)


def test_the_whole_model_is_complete(scored):
    model, scores, pairs = scored
    found = completeness(model, Circuit.full(scores.layout), pairs, sets=2, steps=1, candidates=2)
    assert found.mean.value == pytest.approx(0, abs=1e-5) == found.greedy.gap.value


def test_the_greedy_set_is_the_widest_that_it_tried(scored):
    """With every pair twice, the two halves are the same and the search's own gap is reported."""
    model, scores, pairs = scored
    circuit = select(scores, size=scores.layout.n_edges // 4)
    twice = type(pairs)(tuple(p for pair in pairs for p in (pair, pair)), metric=pairs.metric)
    units = units_inside(circuit, "nodes")
    every = len(units)
    found = completeness(model, circuit, twice, sets=6, steps=every, candidates=every)
    sides = (circuit, circuit.whole())
    variants = [replace(one, mask=one.mask & ~out) for one in sides for out in units.values()]
    kept, whole = shares(measure(model, pairs, variants).columns.mean(dim=0)).view(2, every)
    widest = float((kept - whole).abs().max())
    assert found.greedy.gap.value >= widest - 1e-6 > 0, "steps that narrow the gap are not taken"
    assert len(found.greedy.units) < every, "it was grown to the whole circuit"
    again = completeness(model, circuit, twice, sets=6, steps=1, candidates=every)
    assert again.greedy.gap.value == pytest.approx(widest, abs=1e-6)


def test_a_single_example_has_no_interval(scored):
    model, scores, pairs = scored
    found = minimality(model, select(scores, size=3), pairs[:1], controls=1).faithfulness
    assert math.isfinite(found.value) and math.isnan(found.low) and math.isnan(found.high)
    assert str(found) == f"{found.value:.3f} [-, -]"
    assert found.to_dict() == {"value": found.value, "low": None, "high": None, "n": 1}
    assert str(Estimate.from_dict(found.to_dict())) == str(found)


def test_random_sets_are_distinct(scored):
    """Of four nodes there are four sets of one and six of two: ten asked for are nine."""
    model, _, pairs = scored
    circuit = select_nodes(circuits.attribute_nodes(model, pairs), 4)
    found = completeness(model, circuit, pairs, sets=10)
    drawn = [one.units for one in found.random]
    assert len(set(drawn)) == len(drawn) == 9 and found.to_dict()["asked"] == 10
    assert [len(units) for units in drawn] == [1] * 4 + [2] * 5
    lone = completeness(model, select_nodes(circuits.attribute_nodes(model, pairs), 1), pairs)
    assert len(lone.random) == len(lone.greedy.units) == 1


def test_units(scored):
    _, scores, _ = scored
    layout = scores.layout
    circuit = select(scores, size=12)
    assert set(units_inside(circuit, "edges")) == set(circuit.edges)
    nodes = units_inside(circuit, "nodes")
    writing = {edge.partition("->")[0] for edge in circuit.edges}
    assert set(nodes) == writing - {"input"} and len(nodes) > 1
    for name, mask in nodes.items():
        row = layout.sources.index(name)
        assert mask[row].sum() == layout.mask[row].sum() == mask.sum()
    outside = units_outside(circuit, "nodes", 50, seed=0)
    assert set(outside) == set(layout.sources) - {"input"} - set(nodes)
    for name, mask in outside.items():
        for edge in Circuit(layout, mask).edges:
            source, _, reader = edge.partition("->")
            fed = [layout.sources[row] for row in layout.feeds[layout.readers.index(reader)]]
            assert name == source or name in fed
    assert len(units_outside(circuit, "edges", 5, seed=0)) == 5


@pytest.mark.parametrize("bias", [False, True])
def test_what_enters_either_stream_is_no_unit(bias):
    layout = Layout(1, 2, 2, n_encoder_layers=1, bias=bias)
    components = {node.name for node in layout.source_nodes if node.kind in ("head", "mlp")}
    assert len(components) == len(layout.sources) - (4 if bias else 2)
    edges, nodes = Circuit.full(layout), NodeCircuit.inputs_only(Units.whole(layout))
    for full, empty in ((edges, Circuit.empty(layout)), (nodes.whole(), nodes)):
        assert set(units_inside(full, "nodes")) == components
        assert set(units_outside(empty, "nodes", 99, seed=0)) == components


def test_minimality_of_nodes_equals_the_oracle(scored):
    model, scores, pairs = scored
    circuit = select(scores, size=scores.layout.n_edges // 4)
    found = minimality(model, circuit, pairs, unit="nodes", controls=2)
    whole = oracle_share(model, pairs, circuit.mask)
    for name, mask in list(units_inside(circuit, "nodes").items())[:4]:
        left = oracle_share(model, pairs, circuit.mask & ~mask)
        assert found.drops[name].value == pytest.approx(whole - left, abs=3e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit": "layers"}, "unknown unit 'layers' of a circuit of edges; known: edges, nodes$"),
        ({"sets": 0}, "must be at least 1"),
        ({"candidates": 0}, "must be at least 1"),
    ],
)
def test_refusals(scored, arguments, message):
    model, scores, pairs = scored
    with pytest.raises(circuits.CircuitsError, match=message):
        completeness(model, select(scores, size=20), pairs, **arguments)
    with pytest.raises(circuits.CircuitsError, match="an empty circuit has no nodes"):
        completeness(model, Circuit.empty(scores.layout), pairs)
    with pytest.raises(circuits.CircuitsError, match="needs two pairs"):
        completeness(model, select(scores, size=20), pairs[:1])
