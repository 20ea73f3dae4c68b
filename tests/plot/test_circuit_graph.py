"""The drawing of a circuit holds its edges and nodes, each in a place of its own."""

from __future__ import annotations

import re

import pytest
import torch

from circuits.graph import Circuit, Layout
from circuits.plot.figures.circuit_graph import circuit_graph, drawn_lines
from circuits.runs import RunFolder

T5 = Layout(2, 2, 2, n_encoder_layers=2)
BART = Layout(2, 2, 2, n_encoder_layers=2, bias=True)


def test_the_graph_draws_every_edge_once(opened: RunFolder) -> None:
    circuit = opened.circuits["step-300"]
    plot = circuit_graph(circuit)
    paths = [shape for shape in plot["layout"]["shapes"] if shape["type"] == "path"]
    assert len(paths) == len(circuit)
    named = {data[0] for data in plot["data"][-1]["customdata"]}
    assert named == {edge.replace("<", "&lt;").replace(">", "&gt;") for edge in circuit.edges}
    assert circuit.scores is not None
    negative = sum(float(circuit.scores[circuit.layout.edge(edge)]) < 0 for edge in circuit.edges)
    assert sum(path["line"]["color"] == "$negative" for path in paths) == negative


def test_edges_of_the_graph_lead_upwards(opened: RunFolder) -> None:
    for shape in circuit_graph(opened.circuits["base"])["layout"]["shapes"]:
        if shape["type"] == "path":
            numbers = [float(x) for x in re.findall(r"-?[\d.]+", shape["path"])]
            assert numbers[1] < numbers[3] <= numbers[5] < numbers[7] or numbers[7] > numbers[1]


def test_a_large_circuit_is_cut_to_its_strongest_edges() -> None:
    layout = Layout(6, 12, 4)
    scores = torch.randn(layout.shape, generator=torch.Generator().manual_seed(0)) * layout.mask
    lines = drawn_lines(Circuit(layout, layout.mask, scores), limit=20)
    assert len({(line.source, line.reader) for line in lines}) == 20
    least = min(abs(line.score) for line in lines if line.score is not None)
    assert int((scores.abs() > least).sum()) < 20


def test_a_shared_key_head_is_drawn_into_every_head_of_its_group() -> None:
    layout = Layout(2, 4, 2)
    lines = drawn_lines(Circuit.of(layout, ["m0->a1.kv1<k>"]))
    assert [(line.source, line.target) for line in lines] == [("m0", "a1.h2"), ("m0", "a1.h3")]
    assert circuit_graph(Circuit.of(layout, ["m0->a1.kv1<k>"]))["data"]


def test_an_edge_into_a_shared_head_leads_to_no_node_outside_the_circuit() -> None:
    layout = Layout(2, 4, 2)
    circuit = Circuit.of(layout, ["m0->a1.kv1<k>", "a1.h3->logits"])
    assert {line.target for line in drawn_lines(circuit)} == {"a1.h3", "logits"}
    words = [word for trace in circuit_graph(circuit)["data"][:-1] for word in trace["customdata"]]
    assert "<b>a1.h3</b><br>1 edges in, 1 out" in words
    assert "<b>a1.h2</b><br>not in the circuit" in words


@pytest.mark.parametrize("layout", [Layout(3, 4, 2), T5, BART], ids=["decoder", "t5", "bart"])
def test_every_node_of_the_graph_has_a_place_of_its_own(layout: Layout) -> None:
    plot = circuit_graph(Circuit.full(layout))
    traces = plot["data"][:-1]
    places = {place for trace in traces for place in zip(trace["x"], trace["y"], strict=True)}
    assert len(places) == len(layout.nodes) == sum(len(trace["x"]) for trace in traces)
    assert all(-0.7 < y < plot["layout"]["yaxis"]["range"][1] for _, y in places)
    stacks = {"decoder", "encoder"} if layout.n_encoder_layers else {"layer"}
    assert {text.split()[0] for text in plot["layout"]["yaxis"]["ticktext"]} == stacks


def test_the_decoder_reads_the_encoder_from_above() -> None:
    plot = circuit_graph(Circuit.of(BART, ["enc.a1.h0->x0.h1<k>", "bias->m0"]))
    paths = [shape["path"] for shape in plot["layout"]["shapes"] if shape["type"] == "path"]
    assert len(paths) == 2
    for path in paths:
        numbers = [float(x) for x in re.findall(r"-?[\d.]+", path)]
        assert numbers[1] < numbers[7]
