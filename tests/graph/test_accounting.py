"""Every key of a graph file of EAP-IG or MIB, and of our own, is read, harmless or refused."""

import json
import math

import pytest
import torch
from graph.test_interchange import random_scores

from circuits.errors import CircuitsError
from circuits.graph import Circuit, EdgeScores, Layout, NodeCircuit, select
from circuits.graph.interchange import GraphFile, write_graph
from circuits.graph.units import Units
from circuits.options.exchange import ImportOptions

LAYOUT = Layout(2, 3, 3)
WIDTH = 8
SOURCES = LAYOUT.sources


@pytest.fixture
def file(tmp_path):
    """A file of scores and of a circuit, by ending, after a change to its content."""

    def write(suffix, change=lambda record: None, circuit=None):
        scores = random_scores(LAYOUT)
        kept = select(scores, size=20) if circuit is None else circuit
        path = tmp_path / f"mine{suffix}"
        write_graph(path, d_model=WIDTH, scores=scores, circuit=kept)
        if suffix == ".json":
            record = json.loads(path.read_text())
            change(record)
            path.write_text(json.dumps(record))
        else:
            record = torch.load(path)
            change(record)
            torch.save(record, path)
        return path, scores, kept

    return write


def refused(path, message):
    with pytest.raises(CircuitsError) as error:
        GraphFile.read(path).circuit()
    assert path.name in str(error.value) and message in str(error.value), error.value


def masks(values):
    """The same neuron masks in the two forms, from a (source, d_model) tensor."""

    def in_json(record):
        for name, row in zip(SOURCES, values.tolist(), strict=True):
            record["nodes"][name]["neurons"] = [bool(flag) for flag in row]

    return {".json": in_json, ".pt": lambda record: record.update(neurons_in_graph=values.bool())}


def neuron_scores(values):
    def in_json(record):
        for name, row in zip(SOURCES, values.tolist(), strict=True):
            record["nodes"][name]["neurons_scores"] = row

    return {".json": in_json, ".pt": lambda record: record.update(neurons_scores=values)}


@pytest.mark.parametrize("suffix", [".json", ".pt"])
def test_a_circuit_of_neurons_is_refused_by_name(file, suffix):
    flags = torch.ones(len(SOURCES), WIDTH)
    flags[3, 1:] = 0
    path, *_ = file(suffix, masks(flags)[suffix], Circuit.full(LAYOUT))
    refused(path, f"node {SOURCES[3]}: neurons keep 1 of 8 dimensions of its output")


@pytest.mark.parametrize("suffix", [".json", ".pt"])
def test_masks_that_say_no_more_than_the_edges_are_read_over(file, suffix):
    circuit = Circuit.of(LAYOUT, ["input->m0", "m0->m1", "m1->logits", "m0->logits"])
    flags = torch.zeros(len(SOURCES), WIDTH)
    flags[[SOURCES.index(name) for name in ("input", "m0", "m1")]] = 1
    path, scores, _ = file(suffix, masks(flags)[suffix], circuit)
    read = GraphFile.read(path)
    assert torch.equal(read.circuit().mask, circuit.mask)
    torch.testing.assert_close(read.scores().matrix, scores.matrix)
    flags[SOURCES.index("m0")] = 0
    path, *_ = file(suffix, masks(flags)[suffix], circuit)
    refused(path, "node m0 keeps none of its neurons, yet edges out of it are in the graph")


@pytest.mark.parametrize("suffix", [".json", ".pt"])
def test_scores_of_neurons_are_refused_unless_they_are_none(file, suffix):
    values = torch.full((len(SOURCES), WIDTH), math.nan)
    path, _, circuit = file(suffix, neuron_scores(values)[suffix])
    assert torch.equal(GraphFile.read(path).circuit().mask, circuit.mask)
    values[4, 2] = 0.5
    path, *_ = file(suffix, neuron_scores(values)[suffix])
    refused(path, f"node {SOURCES[4]}: neurons_scores are scores of its output's dimensions")


def test_the_masks_of_a_layer_beside_each_of_its_heads(file):
    """`Graph.to_json` of EAP-IG takes a slice where it wants a row."""
    flags = [[1.0] * WIDTH, [0.0] * WIDTH, [1.0] * WIDTH]

    def change(record):
        for head in range(3):
            record["nodes"][f"a0.h{head}"]["neurons"] = flags

    edges = ["input->a0.h0<q>", "a0.h0->logits", "input->a0.h2<v>", "a0.h2->logits"]
    path, _, circuit = file(".json", change, Circuit.of(LAYOUT, edges))
    assert torch.equal(GraphFile.read(path).circuit().mask, circuit.mask)
    path, *_ = file(".json", change, Circuit.of(LAYOUT, [*edges, "a0.h1->logits"]))
    refused(path, "node a0.h1 keeps none of its neurons")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(weights={}), "the key 'weights' is none of EAP-IG's (cfg, nodes"),
        (lambda r: r["nodes"]["m0"].update(units=[1]), ", node m0: the key 'units' is none of"),
        (
            lambda r: r["edges"]["m0->m1"].update(sign=-1),
            ", edge m0->m1: the key 'sign' is none of",
        ),
        (lambda r: r["nodes"].update(m7={"in_graph": True}), "no node 'm7' in this model"),
        (lambda r: r["nodes"]["m0"].update(in_graph="yes"), "node m0: in_graph is malformed"),
        (lambda r: r["nodes"].update(m0=3), "node m0: 3 is not true or false"),
        (lambda r: r.update(nodes=[]), "nodes should be names"),
        (lambda r: r.update(neurons={"m0": [True] * 7 + [False]}), "node m0: neurons keep 7 of 8"),
        (lambda r: r["nodes"]["m0"].update(neurons=[True] * 5), "should be 8 flags"),
        (lambda r: r["nodes"]["m0"].update(neurons=[0.5] * 8), "should be true or false each"),
        (lambda r: r["nodes"]["m0"].update(neurons="all"), "node m0: neurons are no list"),
        (lambda r: r["cfg"].update(parallel_attn_mlp="false"), "parallel_attn_mlp is 'false'"),
        (lambda r: r["cfg"].update(attn_only=True), "cfg has attn_only, a graph without MLPs"),
        (lambda r: r["cfg"].update(d_model="8"), "cfg's d_model is '8'"),
        (lambda r: r["cfg"].update(n_layers=True), "cfg needs n_layers and n_heads"),
    ],
)
def test_what_the_reader_does_not_know_is_refused_by_name(file, change, message):
    path, *_ = file(".json", change)
    refused(path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(edges_sign=1), "the key 'edges_sign' is none of EAP-IG's"),
        (lambda r: r["src_nodes"].reverse(), "src_nodes has 'm1' where 'input' is expected"),
        (lambda r: r["dst_nodes"].pop(), "dst_nodes has None where 'logits' is expected"),
        (
            lambda r: r.update(nodes_in_graph=torch.ones(4)),
            "one row for each of 9 sources; it has 4",
        ),
    ],
)
def test_matrices_go_by_place(file, change, message):
    path, *_ = file(".pt", change)
    refused(path, message)


def test_a_key_that_comes_twice_is_refused(file):
    path, *_ = file(".json")
    text = path.read_text()
    path.write_text(
        text.replace('"m0->m1": {', '"m0->m1": {"score": 3.0, "in_graph": true}, "m0->m1": {')
    )
    refused(path, "the key 'm0->m1' stands twice")


@pytest.mark.parametrize("suffix", [".json", ".pt"])
def test_nodes_that_contradict_the_edges(file, suffix):
    """EAP-IG keeps a node where a kept edge enters it and another leaves it."""

    def out(*names):
        def change(record):
            for name in names:
                if suffix == ".json":
                    record["nodes"][name]["in_graph"] = False
                else:
                    record["nodes_in_graph"][SOURCES.index(name)] = False

        return change

    circuit = Circuit.of(LAYOUT, ["input->m0", "m0->logits", "a1.h0->m1"])
    path, *_ = file(suffix, out("m0"), circuit)
    refused(path, "node m0 is not in the graph, yet edges into and out of it are")
    for harmless in (("a1.h0", "m1"), SOURCES):  # not pruned yet; none was ever set
        path, *_ = file(suffix, out(*harmless), circuit)
        assert torch.equal(GraphFile.read(path).circuit().mask, circuit.mask)


@pytest.mark.parametrize("suffix", [".json", ".pt"])
def test_scores_of_nodes_are_scores_of_nodes(file, suffix):
    values = torch.arange(1.0, len(SOURCES) + 1)
    values[0] = math.nan  # EAP-IG: not scored, always kept

    def change(record):
        if suffix == ".pt":
            record["nodes_scores"] = values
            return
        for name, value in zip(SOURCES, values.tolist(), strict=True):
            record["nodes"][name]["score"] = value

    path, *_ = file(suffix, change)
    found = GraphFile.read(path).scores_of_nodes(ImportOptions(score_sign="metric"))
    assert found.values.tolist() == [0.0, *(-values[1:]).tolist()]
    values[2] = math.nan
    path, *_ = file(suffix, change)
    with pytest.raises(CircuitsError, match=f"node {SOURCES[2]} has no score, where 7 other"):
        GraphFile.read(path).scores_of_nodes()


@pytest.fixture
def ours(tmp_path):
    def write(circuit, change):
        path = tmp_path / "circuit.json"
        circuit.save(path)
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))
        with pytest.raises(CircuitsError) as error:
            type(circuit).load(path)
        assert str(error.value).startswith(f"{path}: ")
        return str(error.value).removeprefix(f"{path}: ")

    return write


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(neurons=[]), "unknown key 'neurons'; it may be of a later version"),
        (lambda r: r["edges"][1].update(neurons=[3]), "edges.1: unknown key 'neurons'"),
        (lambda r: r["edges"].append(r["edges"][0]), "edge input->m0 stands twice"),
        (lambda r: r["edges"][1].pop("score"), "edge m0->logits has no score, where another has"),
        (lambda r: r["edges"][0].pop("score"), "edge input->m0 has no score, where another has"),
        (
            lambda r: r["edges"][1].update(score=math.nan),
            "edge m0->logits: its score is not finite",
        ),
        (
            lambda r: r["edges"][1].update(score=True),
            "edges.1.score: Input should be a",
        ),
        (lambda r: r["layout"].update(experts=8), "unknown 'experts' (known: n_layers, n_heads"),
        (lambda r: r["layout"].update(n_layers="2"), "not a layout: n_layers is '2', not int"),
    ],
)
def test_our_own_circuits_of_a_later_version(ours, change, message):
    scores = random_scores(LAYOUT).matrix
    circuit = Circuit(LAYOUT, Circuit.of(LAYOUT, ["input->m0", "m0->logits"]).mask, scores)
    assert message in ours(circuit, change)


def test_our_own_node_circuits_of_a_later_version(ours):
    circuit = NodeCircuit.of(Units.of_nodes(LAYOUT), ["input", "m0"])
    assert "unknown key 'heads'" in ours(circuit, lambda r: r.update(heads=[]))
    assert "units.1: unknown key 'part'" in ours(circuit, lambda r: r["units"][1].update(part=2))
    assert "unit m0 stands twice" in ours(circuit, lambda r: r["units"].append({"unit": "m0"}))


def test_our_own_scores_of_a_later_version(tmp_path):
    from safetensors.torch import save_file

    matrix = random_scores(LAYOUT).matrix
    path = EdgeScores(matrix, LAYOUT, "eap").save(tmp_path)
    save_file({"scores": matrix, "variance": matrix.clone()}, path)
    with pytest.raises(CircuitsError, match=r"scores\.safetensors: unknown tensor 'variance'"):
        EdgeScores.load(path)
    save_file({"scores": matrix, "per_example": matrix[None, 1:].clone()}, path)
    with pytest.raises(CircuitsError, match="per_example is"):
        EdgeScores.load(path)
    save_file({"scores": matrix, "per_example": matrix[None].clone()}, path)
    record = json.loads((tmp_path / "scores.json").read_text())
    record["layout"]["experts"] = 8
    (tmp_path / "scores.json").write_text(json.dumps(record))
    with pytest.raises(CircuitsError, match=r"scores\.json: layout: not a layout of this version"):
        EdgeScores.load(path)
