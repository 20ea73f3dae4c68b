"""Circuits and scores in the files of graph tools: what goes in comes out of networkx."""

import json
import re

import networkx as nx
import pytest
import torch
from graph.test_interchange import random_scores

from circuits.errors import CircuitsError
from circuits.graph import Circuit, Layout, NodeCircuit, NodeScores, select
from circuits.graph.network import FORMS, positions, write_network
from circuits.graph.units import Units

LAYOUTS = [
    Layout(2, 3, 3),
    Layout(2, 4, 2),
    Layout(2, 2, 2, parallel=True),
    Layout(1, 2, 1, n_encoder_layers=2, bias=True),
]


def read(path):
    if path.suffix == ".graphml":
        return nx.read_graphml(path, force_multigraph=True)
    if path.suffix == ".gml":
        return nx.read_gml(path)
    if path.suffix == ".json":
        return nx.node_link_graph(json.loads(path.read_text()), edges="edges")
    if path.suffix == ".gexf":
        return from_gexf(nx.read_gexf(path))
    return from_dot(path.read_text())


def from_gexf(found):
    """networkx adds a label and a place to nodes, and makes keys attributes of simple graphs."""
    graph = nx.MultiDiGraph()
    for name, values in found.nodes.items():
        assert values.pop("label") == name
        place = values.pop("viz")["position"]
        assert (place["x"], place["y"]) == (values["x"], values["y"])
        graph.add_node(name, **values)
    for source, target, values in found.edges(data=True):
        graph.add_edge(source, target, key=values.pop("id"), **values)
    if found.is_multigraph():
        assert set(found.edges(keys=True)) == set(graph.edges(keys=True))
    return graph


def from_dot(text):
    """Each statement is a line; values are quoted, and numbers where they read as one."""
    graph = nx.MultiDiGraph()
    for line in text.splitlines()[1:-1]:
        ends, listed = re.fullmatch(r'  (".*?"(?: -> ".*?")?) \[(.*)\];', line).groups()
        values = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', listed))
        for name in ("layer", "head", "unit"):
            values |= {name: int(values[name])} if name in values else {}
        for name in ("score", "x", "y"):
            values |= {name: float(values[name])} if name in values else {}
        for name in ("encoder", "cross"):
            values |= {name: values[name] == "true"} if name in values else {}
        names = re.findall(r'"(.*?)"', ends)
        if len(names) == 1:
            assert values.pop("pos") == f"{values['x']:g},{values['y']:g}!"
            graph.add_node(names[0], **values)
        else:
            graph.add_edge(*names, **values)
    return graph


def kinds(layout):
    scores = random_scores(layout)
    chosen = select(scores, size=layout.n_edges // 3, prune=False)
    widths = tuple(3 if node.kind == "mlp" else 1 for node in layout.source_nodes)
    units = Units(layout, widths)
    values = torch.randn(len(units), generator=torch.Generator().manual_seed(1))
    some = torch.arange(len(units)) % 2 == 0
    return {
        "circuit": chosen,
        "without scores": Circuit(layout, chosen.mask),
        "edge scores": scores,
        "nodes": NodeCircuit.of(layout, layout.sources[::2]),
        "neurons": NodeCircuit(units, some, values),
        "neuron scores": NodeScores(values, layout, widths, "eap-ig"),
    }


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_what_goes_in_comes_out(layout, form, tmp_path):
    for name, thing in kinds(layout).items():
        graph = thing.to_networkx()
        assert len(graph) > 2, name
        found = read(write_network(graph, tmp_path / f"{name}.{form}", form))
        assert type(found) is nx.MultiDiGraph
        assert dict(found.nodes) == dict(graph.nodes), name
        assert {e[:3]: e[3] for e in found.edges(keys=True, data=True)} == {
            e[:3]: e[3] for e in graph.edges(keys=True, data=True)
        }, name


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_keys_are_unique_and_nothing_is_none(layout):
    for thing in kinds(layout).values():
        graph = thing.to_networkx()
        keys = [key for *_, key in graph.edges(keys=True)]
        assert len(set(keys)) == len(keys)
        values = [*graph.nodes.values(), *(data for *_, data in graph.edges(data=True))]
        assert all(None not in found.values() for found in values)


def test_edges_carry_the_circuits_names_and_scores():
    layout = LAYOUTS[1]
    scores = random_scores(layout)
    mask = Circuit.of(layout, ["input->a1.kv0<k>", "m0->m1", "a1.h0->logits", "m1->logits"]).mask
    graph = Circuit(layout, mask, scores.matrix).to_networkx()
    assert graph.edges["input", "a1.h0", "input->a1.h0<k>"] == {
        "edge": "input->a1.kv0<k>",
        "port": "k",
        "score": pytest.approx(scores["input->a1.kv0<k>"]),
    }
    assert graph.edges["m0", "m1", "m0->m1"]["score"] == pytest.approx(scores["m0->m1"])
    assert graph.nodes["a1.h0"].keys() == {"kind", "layer", "head", "x", "y"}
    infinite = Circuit(layout, mask, torch.full(layout.shape, torch.inf)).to_networkx()
    assert all("score" not in data for *_, data in infinite.edges(data=True))


def test_a_node_circuit_has_the_edges_between_its_nodes():
    layout = LAYOUTS[0]
    circuit = NodeCircuit.of(layout, ["input", "a0.h1", "m1"])
    whole = circuit.edges().to_networkx()
    assert set(circuit.to_networkx().edges(keys=True)) == {
        edge for edge in whole.edges(keys=True) if set(edge[:2]) <= {*circuit.nodes}
    }


def test_neurons_belong_to_their_nodes():
    layout = LAYOUTS[0]
    units = Units(layout, tuple(4 if name == "m0" else 1 for name in layout.sources))
    values = torch.arange(1.0, len(units) + 1)
    circuit = NodeCircuit.of(units, ["input", "m0[1]", "m0[3]"])
    graph = NodeCircuit(units, circuit.mask, values).to_networkx()
    assert graph.nodes["m0[3]"]["unit"] == 3 and graph.nodes["m0[3]"]["kind"] == "neuron"
    parts = [float(values[units.find(name)]) for name in ("m0[1]", "m0[3]")]
    assert graph.nodes["m0[3]"]["score"] == parts[1] != 0
    assert graph.nodes["m0"]["score"] == sum(parts)
    assert graph.edges["m0[3]", "m0", "m0[3]->m0"] == {"kind": "part"}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_node_has_a_place_of_its_own_and_edges_lead_upwards(layout):
    places = positions(layout)
    assert len(set(places.values())) == len(places) == len(layout.nodes)
    for source, target in Circuit.full(layout).to_networkx().edges():
        crosses = source.startswith("enc.") and not target.startswith("enc.")
        attends = layout.parallel and target.startswith("m")
        assert crosses or attends or places[target][1] > places[source][1]


@pytest.mark.usefixtures("untyped")
def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(CircuitsError, match="unknown form 'png'; known: graphml, gexf"):
        write_network(nx.MultiDiGraph(), tmp_path / "g.png", "png")
