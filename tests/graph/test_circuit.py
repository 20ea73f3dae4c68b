"""Selection, pruning, saving."""

import json

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.errors import CircuitsError
from circuits.graph import Circuit, EdgeScores, Layout, Provenance, select

SMALL = [Layout(2, 2, 2), Layout(3, 4, 2), Layout(2, 2, 1, parallel=True)]


def random_scores(layout, seed=0):
    draw = torch.randn(layout.shape, generator=torch.Generator().manual_seed(seed))
    return EdgeScores(draw * layout.mask, layout, "random")


def pruned_by_paths(circuit):
    """Edges on some path from input to logits, found by searching the graph edge by edge."""
    graph = nx.DiGraph()
    graph.add_nodes_from(["input", "logits"])
    layout = circuit.layout
    for row, column in circuit.mask.nonzero().tolist():
        for target in layout.feeds[column]:
            graph.add_edge(layout.sources[row], layout.sources[target])
        if column == layout.logits_column:
            graph.add_edge(layout.sources[row], "logits")
    before = nx.descendants(graph, "input") | {"input"}
    after = nx.ancestors(graph, "logits")
    mask = torch.zeros_like(circuit.mask)
    for row, column in circuit.mask.nonzero().tolist():
        targets = [layout.sources[target] for target in layout.feeds[column]]
        leads = column == layout.logits_column or any(target in after for target in targets)
        mask[row, column] = layout.sources[row] in before and leads
    return mask


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SMALL), st.floats(0.02, 0.6), st.integers(0, 2**31))
def test_pruning_leaves_exactly_the_edges_on_paths(layout, share, seed):
    draw = torch.rand(layout.shape, generator=torch.Generator().manual_seed(seed))
    circuit = Circuit(layout, (draw < share) & layout.mask)
    pruned = circuit.pruned()
    assert torch.equal(pruned.mask, pruned_by_paths(circuit))
    assert torch.equal(pruned.pruned().mask, pruned.mask)
    assert not (pruned.mask & ~circuit.mask).any()


def test_full_and_empty():
    layout = SMALL[1]
    assert len(Circuit.full(layout).pruned()) == layout.n_edges
    assert Circuit.full(layout).fraction == 1.0
    assert len(Circuit.empty(layout)) == 0 and Circuit.empty(layout).nodes == ()
    assert Circuit.full(layout).nodes == layout.nodes


def test_a_dead_end_goes_and_a_path_stays():
    layout = SMALL[0]
    path = ["input->a0.h1<v>", "a0.h1->m1", "m1->logits"]
    dead = ["input->a0.h0<q>", "m0->a1.h0<k>"]
    circuit = Circuit.of(layout, [*path, *dead]).pruned()
    assert set(circuit.edges) == set(path)
    assert circuit.nodes == ("input", "a0.h1", "m1", "logits")


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SMALL), st.integers(0, 1000), st.integers(1, 25))
def test_top_n_takes_the_highest(layout, seed, edges):
    scores = random_scores(layout, seed)
    for ranking, keys in [("absolute", scores.matrix.abs()), ("signed", scores.matrix)]:
        mask = select(scores, size=edges, strategy="top-n", ranking=ranking, prune=False).mask
        assert int(mask.sum()) == edges
        assert keys[mask].min() >= keys[layout.mask & ~mask].max()


def test_ties_and_zeros_still_give_n_edges():
    layout = SMALL[0]
    scores = EdgeScores(torch.zeros(layout.shape), layout, "zeros")
    assert len(select(scores, size=7, prune=False)) == 7
    assert len(select(scores, size=layout.n_edges, ranking="signed")) == layout.n_edges


def test_threshold():
    scores = random_scores(SMALL[1])
    circuit = select(scores, min_score=1.0, strategy="threshold", prune=False)
    assert torch.equal(circuit.mask, scores.matrix.abs() >= 1.0)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SMALL), st.integers(0, 1000), st.integers(1, 30))
def test_greedy_always_leads_to_the_logits(layout, seed, edges):
    circuit = select(random_scores(layout, seed), size=edges, strategy="greedy", prune=False)
    assert len(circuit) == edges
    for row, column in circuit.mask.nonzero().tolist():
        feeds = layout.feeds[column]
        onward = any(circuit.mask[target].any() for target in feeds)
        assert column == layout.logits_column or onward, layout.edge_name(row, column)


def test_greedy_takes_the_best_edge_it_can_see():
    layout = SMALL[0]
    matrix = torch.zeros(layout.shape)
    for edge, score in {"m0->logits": 3.0, "input->m0": 1.0, "m1->logits": 2.0}.items():
        matrix[layout.edge(edge)] = score
    matrix[layout.edge("a0.h0->a1.h0<q>")] = 9.0  # the highest of all, but it leads nowhere yet
    circuit = select(EdgeScores(matrix, layout, "planted"), size=3, strategy="greedy", prune=False)
    assert set(circuit.edges) == {"m0->logits", "m1->logits", "input->m0"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 3, "strategy": "best"}, "unknown strategy 'best'"),
        ({"size": 3, "ranking": "upside-down"}, "unknown ranking"),
        ({"size": 10**6}, "1000000 edges asked for; this model has"),
        ({"size": 0.05}, r"size 0\.05: it is a number of edges, not a share; this model has"),
        ({"strategy": "threshold"}, "takes min_score="),
        ({"strategy": "top-n"}, "takes size="),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_refusals(arguments, message):
    with pytest.raises(CircuitsError, match=message):
        select(random_scores(SMALL[0]), **arguments)


def test_circuit_round_trip(tmp_path):
    circuit = select(random_scores(SMALL[1]), size=25)
    circuit.save(tmp_path / "c.json")
    again = Circuit.load(tmp_path / "c.json")
    assert torch.equal(again.mask, circuit.mask) and again.layout == circuit.layout
    assert again.scores is not None and again.provenance == circuit.provenance
    assert torch.equal(again.scores[again.mask], circuit.scores[circuit.mask])


def test_a_text_as_a_score_is_refused(tmp_path):
    select(random_scores(SMALL[1]), size=25).save(tmp_path / "c.json")
    record = json.loads((tmp_path / "c.json").read_text())
    record["edges"][0]["score"] = "high"
    (tmp_path / "c.json").write_text(json.dumps(record))
    with pytest.raises(CircuitsError, match=r"c\.json: edges\.0\.score: Input should be a"):
        Circuit.load(tmp_path / "c.json")


def test_networkx_has_the_circuits_nodes_and_edges():
    circuit = select(random_scores(SMALL[1]), size=25)
    graph = circuit.to_networkx()
    assert set(graph.nodes) == set(circuit.nodes)
    # A k or v reader shared by two heads is an edge into each of them that writes.
    writes = circuit.mask.any(dim=1).tolist()
    fed = [circuit.layout.feeds[column] for _, column in circuit.mask.nonzero().tolist()]
    expected = sum(max(1, sum(writes[row] for row in rows)) for rows in fed)
    assert graph.number_of_edges() == expected
    assert nx.is_directed_acyclic_graph(graph)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SMALL), st.floats(0.02, 0.6), st.integers(0, 2**31))
def test_a_pruned_circuits_nodes_are_those_on_its_paths(layout, share, seed):
    draw = torch.rand(layout.shape, generator=torch.Generator().manual_seed(seed))
    circuit = Circuit(layout, (draw < share) & layout.mask).pruned()
    graph = nx.DiGraph()
    graph.add_nodes_from(["input", "logits"])
    for row, column in circuit.mask.nonzero().tolist():
        ends = [layout.sources[target] for target in layout.feeds[column]] or ["logits"]
        graph.add_edges_from((layout.sources[row], end) for end in ends)
    on_a_path = (nx.descendants(graph, "input") | {"input"}) & (
        nx.ancestors(graph, "logits") | {"logits"}
    )
    assert set(circuit.nodes) == (on_a_path if len(circuit) else set())
    assert set(circuit.to_networkx().nodes) == set(circuit.nodes)


def test_a_shared_key_brings_no_head_that_writes_nothing():
    layout = Layout(2, 4, 2)  # heads 0 and 1 read kv0
    path = ["input->a1.kv0<v>", "a1.h1->logits"]
    assert Circuit.of(layout, path).nodes == ("input", "a1.h1", "logits")
    assert set(Circuit.of(layout, path).to_networkx().edges(data="port")) == {
        ("input", "a1.h1", "v"),
        ("a1.h1", "logits", None),
    }
    dead_end = Circuit.of(layout, ["input->a1.kv0<v>", "input->logits"])
    assert dead_end.nodes == ("input", "a1.h0", "a1.h1", "logits")
    assert len(dead_end.to_networkx().edges) == 3


def test_scores_round_trip(tmp_path):
    layout = SMALL[1]
    per_example = torch.randn(4, *layout.shape) * layout.mask
    scores = EdgeScores(per_example.mean(0), layout, "eap", Provenance(seed=3), per_example)
    path = scores.save(tmp_path)
    for place in (path, tmp_path):
        again = EdgeScores.load(place)
        assert torch.equal(again.matrix, scores.matrix) and again.provenance == Provenance(seed=3)
        assert torch.equal(again.per_example, per_example) and again.method == "eap"
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["sources"] == list(layout.sources)
    assert scores["m0->logits"] == float(scores.matrix[layout.edge("m0->logits")])
    assert scores.top(1)[0][1] == float(scores.matrix.flatten()[scores.matrix.abs().argmax()])


def test_broken_files_are_named(tmp_path):
    with pytest.raises(CircuitsError, match=r"nothing\.safetensors: no such score file"):
        EdgeScores.load(tmp_path / "nothing.safetensors")
    scores = random_scores(SMALL[0])
    path = scores.save(tmp_path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(CircuitsError, match=r"scores\.safetensors: not a score file"):
        EdgeScores.load(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(CircuitsError, match=r"scores\.json: not a JSON file"):
        EdgeScores.load(path)
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(CircuitsError, match=r"c\.json: not a result file"):
        Circuit.load(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, r"schema version 2; this version of circuits reads 1\. Make"),
        ({"kind": "node-circuit"}, "of kind node-circuit, where edge-"),
        ({"kind": None}, "a file that names no kind, where edge-"),
        ({"provenance": {"metric": "x", "mood": 1}}, "provenance: unknown key 'mood'"),
        ({"provenance": {"seed": "one"}}, r"provenance\.seed: "),
    ],
)
def test_a_file_of_another_schema_is_refused_by_name(change, message, tmp_path):
    scores = random_scores(SMALL[0])
    scores.save(tmp_path)
    select(scores, size=9).save(tmp_path / "c.json")
    for name, load in (("scores.json", EdgeScores.load), ("c.json", Circuit.load)):
        path = tmp_path / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(CircuitsError, match=rf"{name}: .*{message}"):
            load(tmp_path if name == "scores.json" else path)


def test_scores_must_be_finite():
    layout = SMALL[0]
    matrix = torch.zeros(layout.shape)
    matrix[layout.edge("m0->logits")] = torch.nan
    with pytest.raises(CircuitsError, match="the score of m0->logits is not finite"):
        EdgeScores(matrix, layout, "eap")
