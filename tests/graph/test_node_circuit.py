"""Circuits of nodes and neurons, and what all levels share."""

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.graph import (
    Circuit,
    EdgeScores,
    Layout,
    NodeCircuit,
    NodeScores,
    Units,
    load_scores,
    node_order,
    select_nodes,
)
from circuits.graph.levels import empty_like, order_of, select_size

LAYOUT = Layout(2, 2, 1)
NAMES = ("input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1")
PARTS = Units(LAYOUT, (1, 2, 2, 3, 2, 2, 3))


def scores(units=None, seed=0):
    units = units or Units.of_nodes(LAYOUT)
    values = torch.randn(len(units), generator=torch.Generator().manual_seed(seed))
    return NodeScores(values, LAYOUT, units.widths, "planted")


def test_what_a_circuit_says_of_itself():
    nodes = NodeCircuit.of(LAYOUT, ["input", "m0", "a1.h1"])
    assert (len(nodes), nodes.fraction, nodes.level) == (2, 2 / 6, "node")
    assert nodes.names == ("input", "m0", "a1.h1") and nodes.nodes == (*nodes.names, "logits")
    units = NodeCircuit.of(PARTS, ["m0[1]", "a1.h1", "input"])
    assert (len(units), units.fraction, units.level) == (3, 3 / 14, "neuron")
    assert units.names == ("input", "m0[1]", "a1.h1[0]", "a1.h1[1]")
    assert units.nodes == nodes.nodes and units.pruned() is units
    assert units.with_all().fraction == 1 and len(units.with_all()) == 14
    assert NodeCircuit.inputs_only(PARTS).nodes == ("input", "logits")
    assert len(NodeCircuit.inputs_only(PARTS)) == 0 and len(NodeCircuit.of(PARTS, ["input"])) == 0


def test_edges_of_a_node_circuit():
    circuit = NodeCircuit.of(LAYOUT, ["input", "m0"])
    assert set(circuit.edges().edges) == {
        edge for edge in Circuit.full(LAYOUT).edges if edge.split("->")[0] in ("input", "m0")
    }
    with pytest.raises(CircuitsError, match="m0 is kept in part; edges leave whole nodes"):
        NodeCircuit.of(PARTS, ["m0[1]"]).edges()


@pytest.mark.parametrize("units", [Units.of_nodes(LAYOUT), PARTS])
def test_selection_takes_the_best_and_the_input_for_nothing(units):
    found = scores(units)
    total = len(units) - 1
    for ranking, worth in (("absolute", found.values.abs()), ("signed", found.values)):
        order = node_order(found, ranking)
        assert sorted(order.tolist()) == list(range(1, total + 1))
        assert worth[order].tolist() == sorted(worth[1:].tolist(), reverse=True)
        circuit = select_nodes(found, 4, ranking=ranking)
        assert len(circuit) == 4 and bool(circuit.mask[0])
        assert set(circuit.mask[1:].nonzero().flatten().add(1).tolist()) == set(order[:4].tolist())
        assert torch.equal(circuit.with_only(order[:4]).mask, circuit.mask)
    assert len(select_nodes(found, 0)) == 0 and select_nodes(found, total).fraction == 1
    assert circuit.provenance.selection.size == 4 and circuit.provenance.method == "planted"


def mixed_by_hand(found, positive_ratio):
    """One unit after the other: from the signed order while less than its share is in."""
    left = list(range(1, len(found.units)))
    order, n_signed = [], 0
    while left:
        by_sign = n_signed < positive_ratio * (len(order) + 1)
        worth = found.values if by_sign else found.values.abs()
        best = max(left, key=lambda unit: float(worth[unit]))
        left.remove(best)
        order.append(best)
        n_signed += by_sign
    return order


@pytest.mark.parametrize("units", [Units.of_nodes(LAYOUT), PARTS])
@pytest.mark.parametrize("positive_ratio", [0.0, 0.5, 0.8, 1.0])
def test_a_mix_takes_its_share_from_each_order(units, positive_ratio):
    found = scores(units, seed=4)
    expected = mixed_by_hand(found, positive_ratio)
    order = node_order(found, "mixed", positive_ratio=positive_ratio)
    assert order.tolist() == expected
    pure = {0.0: "absolute", 1.0: "signed"}.get(positive_ratio)
    for ranking in ("absolute", "signed"):
        assert (order.tolist() == node_order(found, ranking).tolist()) == (ranking == pure)
    for size in (0, 1, 4, len(expected)):
        circuit = select_nodes(found, size, ranking="mixed", positive_ratio=positive_ratio)
        assert circuit.mask.nonzero().flatten().tolist() == sorted([0, *expected[:size]])
        few = node_order(found, "mixed", positive_ratio=positive_ratio, first=size)
        assert few.tolist() == expected[:size]
    selection = circuit.provenance.selection
    assert (selection.ranking, selection.positive_ratio) == ("mixed", positive_ratio)


def test_two_streams_and_constants_enter_a_model():
    both = NodeCircuit.inputs_only(Units.of_nodes(Layout(1, 2, 2, n_encoder_layers=1, bias=True)))
    assert both.names == ("enc.input", "enc.bias", "input", "bias")


@pytest.mark.parametrize("units", [Units.of_nodes(LAYOUT), PARTS])
def test_round_trip(units, tmp_path):
    circuit = select_nodes(scores(units), 3)
    circuit.save(tmp_path / "c.json")
    again = NodeCircuit.load(tmp_path / "c.json")
    assert torch.equal(again.mask, circuit.mask) and again.units == circuit.units
    assert torch.equal(again.scores[again.mask], circuit.scores[circuit.mask])
    assert again.provenance == circuit.provenance
    bare = NodeCircuit.of(units, ["m1"])
    bare.save(tmp_path / "bare.json")
    assert NodeCircuit.load(tmp_path / "bare.json").scores is None
    Circuit.full(LAYOUT).save(tmp_path / "edges.json")
    with pytest.raises(
        CircuitsError, match=r"edges\.json: a file of kind edge-circuit, where node-circuit"
    ):
        NodeCircuit.load(tmp_path / "edges.json")


def test_levels_agree_on_sizes_and_orders():
    edges = EdgeScores(torch.rand(LAYOUT.shape) * LAYOUT.mask, LAYOUT, "planted")
    for found in (edges, scores(), scores(PARTS)):
        nothing, order = empty_like(found), order_of(found, "top-n", "signed")
        assert len(nothing) == 0 and sorted(order.tolist()) == nothing.candidates.tolist()
        assert torch.equal(nothing.with_only(order).mask, nothing.with_all().mask)
        chosen = select_size(found, 3, strategy="top-n", ranking="signed")
        assert torch.equal(chosen.pruned().mask, nothing.with_only(order[:3]).pruned().mask)
        assert nothing.candidate_name(int(order[0])) in dict(found.top(len(order) + 1))
        how = {"strategy": "top-n", "ranking": "mixed", "positive_ratio": 0.6}
        mixed = select_size(found, 3, **how, prune=False)
        assert torch.equal(nothing.with_only(order_of(found, **how)[:3]).mask, mixed.mask)


@pytest.mark.usefixtures("untyped")
def test_refusals():
    with pytest.raises(CircuitsError, match="7 nodes asked for; this model has 6"):
        select_nodes(scores(), 7)
    with pytest.raises(CircuitsError, match="size '3': it is a number of nodes, not a share"):
        select_nodes(scores(), "3")
    with pytest.raises(CircuitsError, match="unknown ranking 'luck'; known: absolute, signed, mix"):
        node_order(scores(PARTS), "luck")
    for refused in ({"ranking": "mixed"}, {"ranking": "signed", "positive_ratio": 0.5}):
        with pytest.raises(CircuitsError, match='ranking "mixed" takes a positive_ratio= from 0'):
            select_nodes(scores(PARTS), 2, **refused)
    with pytest.raises(
        CircuitsError, match="strategy 'widest-path' orders edges; nodes are taken by strategy"
    ):
        order_of(scores(), "widest-path")
    with pytest.raises(CircuitsError, match='ranking "mixed" takes a positive_ratio='):
        select_size(scores(), 2, positive_ratio=0.5)
    with pytest.raises(CircuitsError, match="a circuit of 2 units for sources of 7"):
        NodeCircuit(Units.of_nodes(LAYOUT), torch.ones(2, dtype=torch.bool))
    with pytest.raises(CircuitsError, match=r"'m0\[3\]': m0 has 3 units"):
        NodeCircuit.of(PARTS, ["m0[3]"])


def test_a_folder_says_what_its_scores_are_of(tmp_path):
    found = scores(PARTS)
    file = found.save(tmp_path)
    for path in (tmp_path, file):
        assert isinstance(load_scores(path), NodeScores)
    edges = EdgeScores(torch.zeros(LAYOUT.shape), LAYOUT, "planted").save(tmp_path)
    assert isinstance(load_scores(edges), EdgeScores) and isinstance(load_scores(file), NodeScores)
    with pytest.raises(CircuitsError, match=r"several kinds of scores; name scores\.safe"):
        load_scores(tmp_path)
    with pytest.raises(CircuitsError, match="no such score file"):
        load_scores(tmp_path / "nothing")
