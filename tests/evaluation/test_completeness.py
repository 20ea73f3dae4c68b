"""Completeness against the oracle, set by set."""

import math
from dataclasses import replace

import pytest
from oracles.split_paths import SplitPaths

import circuits
from circuits.evaluation import (
    CompletenessConfig,
    MinimalityConfig,
    completeness,
    measure,
    minimality,
)
from circuits.evaluation.knockout import components_inside, components_outside
from circuits.evaluation.measure import faithfulness_from_means
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


@pytest.mark.parametrize("level", ["node", "edge"])
def test_every_gap_equals_the_oracle(scored, level):
    model, scores, pairs = scored
    circuit = select(scores, size=scores.layout.n_edges // 4)
    found = completeness(model, circuit, pairs, config=CompletenessConfig(level, 3, 2, 3))
    assert found.n_search_examples == 3 and found.incompleteness.n == 3
    members = components_inside(circuit, level)
    reported = type(pairs)(pairs.pairs[::2], metric=pairs.metric)
    gaps = []
    for one in (*found.random, found.greedy):
        out = sum(members[name] for name in one.components).bool()
        kept = oracle_share(model, reported, circuit.mask & ~out)
        whole = oracle_share(model, reported, circuit.layout.mask & ~out)
        assert one.circuit.value == pytest.approx(kept, abs=2e-3)
        assert one.model.value == pytest.approx(whole, abs=2e-3)
        assert one.incompleteness.value == pytest.approx(abs(kept - whole), abs=4e-3)
        gaps.append(one.incompleteness.value)
    assert found.incompleteness.value == pytest.approx(sum(gaps[:-1]) / 3, abs=1e-6)
    assert max(gaps) > 0.01, "nothing was told apart"
    sizes = [len(one.components) for one in found.random]
    assert sizes[0] == 1 and sizes[-1] == len(members) // 2
    assert len(found.greedy.components) in (1, 2)


def test_the_whole_model_is_complete(scored):
    model, scores, pairs = scored
    few = CompletenessConfig(n_sets=2, n_steps=1, n_candidates=2)
    found = completeness(model, Circuit.full(scores.layout), pairs, config=few)
    assert (
        found.incompleteness.value
        == pytest.approx(0, abs=1e-5)
        == found.greedy.incompleteness.value
    )


def test_the_greedy_set_is_the_widest_that_it_tried(scored):
    """With every pair twice, the two halves are the same and the search's own gap is reported."""
    model, scores, pairs = scored
    circuit = select(scores, size=scores.layout.n_edges // 4)
    twice = type(pairs)(tuple(p for pair in pairs for p in (pair, pair)), metric=pairs.metric)
    nodes = components_inside(circuit, "node")
    every = len(nodes)
    deep = CompletenessConfig(n_sets=6, n_steps=every, n_candidates=every)
    found = completeness(model, circuit, twice, config=deep)
    sides = (circuit, circuit.with_all())
    variants = [replace(one, mask=one.mask & ~out) for one in sides for out in nodes.values()]
    kept, whole = faithfulness_from_means(measure(model, pairs, variants).columns.mean(dim=0)).view(
        2, every
    )
    widest = float((kept - whole).abs().max())
    assert found.greedy.incompleteness.value >= widest - 1e-6 > 0, (
        "steps that narrow the gap are not taken"
    )
    assert len(found.greedy.components) < every, "it was grown to the whole circuit"
    again = completeness(model, circuit, twice, config=replace(deep, n_steps=1))
    assert again.greedy.incompleteness.value == pytest.approx(widest, abs=1e-6)


def test_a_single_example_has_no_interval(scored):
    model, scores, pairs = scored
    found = minimality(
        model, select(scores, size=3), pairs[:1], config=MinimalityConfig(n_controls=1)
    ).faithfulness
    assert math.isfinite(found.value) and math.isnan(found.low) and math.isnan(found.high)
    assert str(found) == f"{found.value:.3f} [-, -]"


def test_random_sets_are_distinct(scored):
    """Of four nodes there are four sets of one and six of two: ten asked for are nine."""
    model, _, pairs = scored
    circuit = select_nodes(circuits.attribute_nodes(model, pairs), 4)
    found = completeness(model, circuit, pairs, config=CompletenessConfig(n_sets=10))
    drawn = [one.components for one in found.random]
    assert len(set(drawn)) == len(drawn) == 9 and found.n_requested == 10
    assert [len(names) for names in drawn] == [1] * 4 + [2] * 5
    lone = completeness(model, select_nodes(circuits.attribute_nodes(model, pairs), 1), pairs)
    assert len(lone.random) == len(lone.greedy.components) == 1


def test_what_is_knocked_out(scored):
    _, scores, _ = scored
    layout = scores.layout
    circuit = select(scores, size=12)
    assert set(components_inside(circuit, "edge")) == set(circuit.edges)
    nodes = components_inside(circuit, "node")
    writing = {edge.partition("->")[0] for edge in circuit.edges}
    assert set(nodes) == writing - {"input"} and len(nodes) > 1
    for name, mask in nodes.items():
        row = layout.sources.index(name)
        assert mask[row].sum() == layout.mask[row].sum() == mask.sum()
    outside = components_outside(circuit, "node", 50, seed=0)
    assert set(outside) == set(layout.sources) - {"input"} - set(nodes)
    for name, mask in outside.items():
        for edge in Circuit(layout, mask).edges:
            source, _, reader = edge.partition("->")
            fed = [layout.sources[row] for row in layout.feeds[layout.readers.index(reader)]]
            assert name == source or name in fed
    assert len(components_outside(circuit, "edge", 5, seed=0)) == 5


@pytest.mark.parametrize("bias", [False, True])
def test_what_enters_either_stream_is_not_knocked_out(bias):
    layout = Layout(1, 2, 2, n_encoder_layers=1, bias=bias)
    components = {node.name for node in layout.source_nodes if node.kind in ("head", "mlp")}
    assert len(components) == len(layout.sources) - (4 if bias else 2)
    edges, nodes = Circuit.full(layout), NodeCircuit.inputs_only(Units.of_nodes(layout))
    for full, empty in ((edges, Circuit.empty(layout)), (nodes.with_all(), nodes)):
        assert set(components_inside(full, "node")) == components
        assert set(components_outside(empty, "node", 99, seed=0)) == components


def test_minimality_of_nodes_equals_the_oracle(scored):
    model, scores, pairs = scored
    circuit = select(scores, size=scores.layout.n_edges // 4)
    found = minimality(model, circuit, pairs, config=MinimalityConfig("node", n_controls=2))
    whole = oracle_share(model, pairs, circuit.mask)
    for name, mask in list(components_inside(circuit, "node").items())[:4]:
        left = oracle_share(model, pairs, circuit.mask & ~mask)
        assert found.drops[name].value == pytest.approx(whole - left, abs=3e-3)


@pytest.mark.parametrize("wrong", [{"n_sets": 0}, {"n_steps": 0}, {"n_candidates": 0}])
def test_counts_below_one_are_refused(wrong):
    with pytest.raises(circuits.CircuitsError, match="must be at least 1"):
        CompletenessConfig(**wrong)


def test_refusals(scored):
    model, scores, pairs = scored
    circuit = select(scores, size=20)
    neurons = CompletenessConfig("neuron")
    with pytest.raises(circuits.CircuitsError, match=r"no neuron can be .* known: edge, node$"):
        completeness(model, circuit, pairs, config=neurons)
    with pytest.raises(circuits.CircuitsError, match="an empty circuit has no nodes"):
        completeness(model, Circuit.empty(scores.layout), pairs)
    with pytest.raises(circuits.CircuitsError, match="needs two pairs"):
        completeness(model, circuit, pairs[:1])
