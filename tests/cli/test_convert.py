"""`circuits convert`, there and back."""

import json

import networkx as nx
import pytest
import torch
from cli.inside import circuits
from cli.test_cli import refused

from circuits.graph import Circuit, EdgeScores, Layout, NodeScores, Provenance, select
from circuits.graph.interchange import GraphFile, write_graph
from circuits.graph.provenance import ModelRecord

LAYOUT = Layout(3, 4, 2)


@pytest.fixture
def ours(tmp_path):
    draw = torch.randn(LAYOUT.shape, generator=torch.Generator().manual_seed(0))
    scores = EdgeScores(draw * LAYOUT.mask, LAYOUT, "eap-ig")
    scores.save(tmp_path / "ours")
    circuit = select(scores, size=40)
    circuit.save(tmp_path / "ours/circuit.json")
    return tmp_path / "ours", scores, circuit


def test_there_and_back(ours, model_folder, tmp_path):
    folder, scores, circuit = ours
    file = tmp_path / "graph.json"
    done = circuits(
        *("convert", folder, "--model", model_folder("llama"), "--out", file),
        *("--circuit", folder / "circuit.json"),
    )
    assert done.returncode == 0, done.stderr
    assert f"wrote {file}" in done.stdout and "of the edges, as MIB counts them" in done.stdout
    assert GraphFile.read(file).record["cfg"]["d_model"] == 32
    done = circuits(
        *("convert", file, "--model", model_folder("llama"), "--out", tmp_path / "back")
    )
    assert done.returncode == 0, done.stderr
    back = EdgeScores.load(tmp_path / "back")
    torch.testing.assert_close(back.matrix, scores.matrix)
    assert torch.equal(Circuit.load(tmp_path / "back/circuit.json").mask, circuit.mask)


def test_a_circuit_alone_and_the_ungrouped_graph(ours, tmp_path):
    folder, _, circuit = ours
    file = tmp_path / "graph.pt"
    done = circuits("convert", folder / "circuit.json", "--d-model", 32, "--out", file)
    assert done.returncode == 0, done.stderr
    done = circuits("convert", file, "--out", tmp_path / "back")
    assert done.returncode == 0, done.stderr
    wide = Circuit.load(tmp_path / "back/circuit.json")
    assert wide.layout == Layout(3, 4, 4) and len(wide) > len(circuit)
    assert not (tmp_path / "back/scores.safetensors").exists()


def test_scores_survive_a_circuit_that_splits_a_group(ours, tmp_path):
    _, scores, _ = ours
    wide = Layout(3, 4, 4)
    both = EdgeScores(torch.ones(wide.shape) * wide.mask, wide, "eap-ig")
    half = Circuit.of(wide, ["input->a1.h3<k>", "m2->logits"])
    file = write_graph(tmp_path / "graph.json", d_model=32, scores=both, circuit=half)
    done = circuits("convert", file, "--kv-heads", 2, "--out", tmp_path / "back")
    assert done.returncode == 0, done.stderr
    assert "note: its scores only" in done.stderr and "input->a1.kv1<k>" in done.stderr
    assert EdgeScores.load(tmp_path / "back").layout == scores.layout
    assert not (tmp_path / "back/circuit.json").exists()


def test_shares_of_copies_are_their_mean(ours, tmp_path):
    _, scores, _ = ours
    shares = EdgeScores(scores.matrix, LAYOUT, "information-flow")
    file = write_graph(tmp_path / "graph.json", d_model=32, scores=shares)
    done = circuits(
        *("convert", file, "--kv-heads", 2, "--kv-reduction", "mean", "--out", tmp_path / "back")
    )
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(EdgeScores.load(tmp_path / "back").matrix, scores.matrix)


def test_neurons_are_refused_and_node_scores_are_kept(tmp_path):
    layout = Layout(2, 2, 2)
    file = write_graph(tmp_path / "g.json", d_model=8, circuit=Circuit.full(layout))
    record = json.loads(file.read_text())
    for name, node in record["nodes"].items():
        if name != "logits":
            node["neurons"] = [True] + [False] * 7
    file.write_text(json.dumps(record))
    out = tmp_path / "out"
    refused(
        circuits("convert", file, "--out", out), ": neurons keep 1 of 8 dimensions of its output"
    )
    assert not out.exists()
    for place, node in enumerate(record["nodes"].values()):
        node.pop("neurons", None)
        node["score"] = place / 2
    file.write_text(json.dumps(record))
    done = circuits("convert", file, "--out", out)
    assert done.returncode == 0, done.stderr
    assert NodeScores.load(out)["a1.h0"] == record["nodes"]["a1.h0"]["score"] != 0
    assert len(Circuit.load(out / "circuit.json")) == layout.n_edges
    record["edges"]["input->m0"]["score"] = 2.0
    record["nodes"]["m0"]["in_graph"] = False
    file.write_text(json.dumps(record))
    refused(circuits("convert", file, "--out", out), "node m0 is not in the graph, yet edges into")
    record["nodes"]["m0"]["in_graph"] = True
    file.write_text(json.dumps(record))
    done = circuits("convert", file, "--out", tmp_path / "both")
    assert done.returncode == 0, done.stderr
    assert NodeScores.load(tmp_path / "both/nodes")["m0"] == record["nodes"]["m0"]["score"]
    assert EdgeScores.load(tmp_path / "both")["input->m0"] == 2.0


def test_bad_input_is_one_line(ours, model_folder, tmp_path):
    folder, *_ = ours
    refused(circuits("convert", folder, "--out", tmp_path / "g.json"), "give --model or --d-model")
    for given, message in (
        (("--model", model_folder("llama"), "--d-model", 64), "width: 64 of"),
        (("--model", "newsroom-gpt2"), "layers: 3 of"),
    ):
        refused(circuits("convert", folder, *given, "--out", tmp_path / "g.json"), message)
    missing = tmp_path / "nothing.json"
    refused(circuits("convert", missing, "--out", tmp_path / "out"), "nothing.json: no such file")
    empty = write_graph(tmp_path / "e.json", d_model=8, circuit=Circuit.empty(LAYOUT))
    refused(circuits("convert", empty, "--out", tmp_path / "out"), "no edge has a score")
    for name, edges in (("one", 40), ("other", 30)):
        model = ModelRecord(name=name, architecture="any", dtype="float32", fingerprint=name)
        made = EdgeScores(ours[1].matrix, LAYOUT, "eap-ig", Provenance(model=model))
        made.save(tmp_path / name)
        select(made, size=edges).save(tmp_path / name / "circuit.json")
    mixed = ("--circuit", tmp_path / "other/circuit.json", "--out", tmp_path / "g.json")
    refused(
        circuits("convert", tmp_path / "one", "--d-model", 32, *mixed),
        "its model is not the one that",
    )
    assert not (tmp_path / "g.json").exists()
    refused(
        circuits("convert", empty, "--out", tmp_path / "out", "--circuit", empty),
        "--circuit goes with an --out of .json or .pt",
    )


def test_graph_tools(ours, tmp_path):
    folder, scores, circuit = ours
    for ending in ("graphml", "gexf", "gml", "dot"):
        done = circuits("convert", folder / "circuit.json", "--out", tmp_path / f"c.{ending}")
        assert done.returncode == 0, done.stderr
    graph = circuit.to_networkx()
    found = nx.read_graphml(tmp_path / "c.graphml", force_multigraph=True)
    assert set(found.edges(keys=True)) == set(graph.edges(keys=True)) and len(graph.edges) > 40
    assert dict(found.nodes) == dict(graph.nodes)
    out = tmp_path / "scores.json"
    done = circuits("convert", folder, "--to", "json", "--out", out)
    assert done.returncode == 0, done.stderr
    found = nx.node_link_graph(json.loads(out.read_text()), edges="edges")
    whole = scores.to_networkx()
    assert nx.utils.graphs_equal(found, whole)
    assert f"{len(whole)} nodes, {whole.number_of_edges()} edges" in done.stdout
    mask = ("--circuit", folder / "circuit.json", "--out", tmp_path / "both.gml")
    done = circuits("convert", folder, *mask)
    assert done.returncode == 0, done.stderr
    assert nx.utils.graphs_equal(nx.read_gml(tmp_path / "both.gml"), graph)
    refused(
        circuits("convert", folder, "--to", "svg", "--out", out),
        "unknown --to 'svg'; known: eap-ig,",
    )
    theirs = write_graph(tmp_path / "g.json", d_model=8, circuit=circuit)
    refused(
        circuits("convert", theirs, "--out", tmp_path / "g.dot"), "g.json: a graph file of EAP-IG"
    )
    refused(circuits("convert", folder / "circuit.json", *mask), "this is a circuit itself")
