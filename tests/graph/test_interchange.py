"""The files of EAP-IG and MIB: names, signs, groups, and what is refused."""

import json

import pytest
import torch
from conftest import CONFIGS
from oracles.split_paths import SplitPaths
from transformers import LlamaForCausalLM

from circuits.attribution import attribute
from circuits.errors import CircuitsError
from circuits.graph import Circuit, EdgeScores, Layout, select
from circuits.graph.interchange import GraphFile, write_graph
from circuits.graph.ungrouped import ungrouped, ungrouped_share
from circuits.models import HookedModel
from circuits.options.exchange import ImportOptions

LAYOUTS = [Layout(2, 3, 3), Layout(3, 4, 2), Layout(2, 4, 1, parallel=True)]


def read_scores(path, **settings):
    return GraphFile.read(path).scores(ImportOptions(**settings))


def read_circuit(path, **settings):
    return GraphFile.read(path).circuit(ImportOptions(**settings))


def random_scores(layout, seed=0):
    draw = torch.randn(layout.shape, generator=torch.Generator().manual_seed(seed))
    return EdgeScores(draw * layout.mask, layout, "random")


def edges_of_eap_ig(n_layers, n_heads, parallel):
    """Edge names as `Graph.from_model` of EAP-IG makes them, with their places in its matrices."""
    width = 3 * n_heads + 1

    def row(name):
        if name == "input":
            return 0
        if name[0] == "m":
            return 1 + int(name[1:]) * (n_heads + 1) + n_heads
        layer, head = name[1:].split(".h")
        return 1 + int(layer) * (n_heads + 1) + int(head)

    edges, stream = {}, ["input"]
    for layer in range(n_layers):
        heads = [f"a{layer}.h{head}" for head in range(n_heads)]
        readers = {
            f"{name}<{port}>": layer * width + place * n_heads + head
            for head, name in enumerate(heads)
            for place, port in enumerate("qkv")
        }
        if parallel:
            readers[f"m{layer}"] = layer * width + 3 * n_heads
        for source in stream:
            edges |= {f"{source}->{name}": (row(source), place) for name, place in readers.items()}
        stream += heads
        if not parallel:
            place = layer * width + 3 * n_heads
            edges |= {f"{source}->m{layer}": (row(source), place) for source in stream}
        stream.append(f"m{layer}")
    edges |= {f"{source}->logits": (row(source), n_layers * width) for source in stream}
    return edges


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_names_and_places_are_theirs(layout, tmp_path):
    scores = random_scores(layout)
    theirs = edges_of_eap_ig(layout.n_layers, layout.n_heads, layout.parallel)
    record = json.loads(write_graph(tmp_path / "g.json", d_model=8, scores=scores).read_text())
    assert record["cfg"] == {
        "n_layers": layout.n_layers,
        "n_heads": layout.n_heads,
        "parallel_attn_mlp": layout.parallel,
        "d_model": 8,
    }
    assert set(record["edges"]) == set(theirs)
    assert set(record["nodes"]) == {*layout.sources, "logits"}
    assert record["nodes"]["logits"] == {"in_graph": True}
    tensors = torch.load(write_graph(tmp_path / "g.pt", d_model=8, scores=scores))
    assert tensors["src_nodes"] == list(layout.sources)
    for name, place in theirs.items():
        assert tensors["edges_scores"][place] == record["edges"][name]["score"] != 0
        source, reader = name.split("->")
        assert tensors["dst_nodes"][place[1]] == reader and tensors["src_nodes"][place[0]] == source
    assert torch.count_nonzero(tensors["edges_scores"]) == len(theirs) == ungrouped(layout).n_edges


@pytest.mark.parametrize("suffix", ["json", "pt"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_round_trip(layout, suffix, tmp_path):
    scores = random_scores(layout)
    circuit = select(scores, size=layout.n_edges // 3)
    assert 0 < len(circuit) < layout.n_edges
    path = write_graph(tmp_path / f"g.{suffix}", d_model=8, scores=scores, circuit=circuit)
    back = read_scores(path, kv_heads=layout.n_kv_heads)
    assert back.layout == layout
    torch.testing.assert_close(back.matrix, scores.matrix, atol=1e-6, rtol=1e-6)
    kept = read_circuit(path, kv_heads=layout.n_kv_heads)
    assert kept.layout == layout and torch.equal(kept.mask, circuit.mask)


def test_ungrouped_graph_and_its_percentage(tmp_path):
    layout = LAYOUTS[1]
    circuit = Circuit.of(layout, ["input->a1.kv1<k>", "m0->logits"])
    path = write_graph(tmp_path / "g.json", d_model=8, circuit=circuit)
    wide = read_circuit(path)
    assert wide.layout == Layout(3, 4, 4)
    assert wide.edges == ("input->a1.h2<k>", "input->a1.h3<k>", "m0->logits")
    assert wide.fraction == ungrouped_share(circuit) == 3 / Layout(3, 4, 4).n_edges
    scores = random_scores(layout)
    copies = read_scores(write_graph(tmp_path / "s.json", d_model=8, scores=scores))
    half = scores["input->a1.kv1<k>"] / 2
    assert copies["input->a1.h2<k>"] == copies["input->a1.h3<k>"] == pytest.approx(half)
    assert copies["input->a1.h3<q>"] == scores["input->a1.h3<q>"]


@pytest.mark.parametrize("suffix", [".json", ".pt"])
def test_a_circuit_alone_has_scores_of_zero_that_count_as_none(suffix, tmp_path):
    """`Graph.from_json` of EAP-IG takes `score` and `in_graph` of every edge."""
    circuit = Circuit.of(LAYOUTS[0], ["input->m0", "m0->logits"])
    file = GraphFile.read(write_graph(tmp_path / f"g{suffix}", d_model=8, circuit=circuit))
    if suffix == ".json":
        assert all(edge.keys() == {"score", "in_graph"} for edge in file.record["edges"].values())
        assert {edge["score"] for edge in file.record["edges"].values()} == {0.0}
    assert file.has_circuit and not file.has_scores
    assert torch.equal(file.circuit().mask, circuit.mask)
    with pytest.raises(CircuitsError, match="the scores of its edges are all zero"):
        file.scores()


def twin_without_groups(grouped):
    """The same function, with a k and v projection per query head."""
    twin = LlamaForCausalLM(CONFIGS["llama-mha"]())
    weights = dict(grouped.hf.state_dict())
    for name, weight in weights.items():
        if "k_proj" in name or "v_proj" in name:
            weights[name] = weight.view(2, 8, -1).repeat_interleave(2, dim=0).flatten(0, 1)
    twin.load_state_dict(weights)
    return HookedModel(twin, None, "twin")


def close(found, expected):
    scale = float(expected.abs().max())
    assert scale > 1e-3
    assert float((found - expected).abs().max()) <= 1e-5 * scale


def test_summing_the_copies_gives_the_grouped_scores(hooked, random_pairs, tmp_path):
    """A grouped model and its twin without groups."""
    grouped, pairs = hooked("llama"), random_pairs(n=2)
    expected = attribute(grouped, pairs, "eap-ig", steps=3)
    wide = attribute(twin_without_groups(grouped), pairs, "eap-ig", steps=3)
    path = write_graph(tmp_path / "g.json", d_model=32, scores=wide)
    close(read_scores(path, kv_heads=2).matrix, expected.matrix)


@pytest.mark.parametrize("suffix", [".json", ".pt"])
def test_shares_of_a_reader_are_those_of_each_copy(suffix, hooked, random_pairs, tmp_path):
    """Information flow routes: a twin whose KV heads stand side by side has the same ones."""
    grouped, pairs = hooked("llama"), random_pairs(n=2)
    own = attribute(grouped, pairs, "information-flow")
    wide = attribute(twin_without_groups(grouped), pairs, "information-flow")
    written = write_graph(tmp_path / f"grouped{suffix}", d_model=32, scores=own)
    close(read_scores(written).matrix, wide.matrix)
    written = write_graph(tmp_path / f"wide{suffix}", d_model=32, scores=wide)
    found = read_scores(written, kv_heads=2, kv_reduction="mean")
    close(found.matrix, own.matrix)
    again = write_graph(tmp_path / f"again{suffix}", d_model=32, scores=found)
    close(read_scores(again).matrix, wide.matrix)


def test_sign_is_that_of_eap_ig(hooked, random_pairs, tmp_path):
    """(corrupted - clean) . gradient of the mean loss, divided by the number of examples."""
    model, pairs = hooked("gpt2"), random_pairs(n=3)
    batch = next(pairs.batches(3))
    at, right, wrong = batch.position, batch.answer[:, 0], batch.wrong[:, 0]

    def loss(logits):
        here = logits[torch.arange(3), at]
        return -(here.gather(1, right[:, None]) - here.gather(1, wrong[:, None])).mean()

    oracle = SplitPaths(model.hf, 4, 4, 8)
    clean_minus_corrupted = oracle.scores(
        batch.clean, batch.corrupted, loss, (0.0, 0.5), (0.5, 0.5)
    )
    theirs = -clean_minus_corrupted / len(pairs)
    file = tmp_path / "g.pt"
    write_graph(file, d_model=32, scores=EdgeScores(theirs, model.layout, "eap-ig"))
    ours = attribute(model, pairs, "eap-ig", steps=2, quadrature="left").matrix
    scale = float(ours.abs().max())
    assert scale > 1e-3
    batch_size = len(batch)
    torch.testing.assert_close(
        read_scores(file).matrix * batch_size, ours, atol=1e-5 * scale, rtol=0
    )
    torch.testing.assert_close(
        read_scores(file, score_sign="metric").matrix * -batch_size, ours, atol=1e-5 * scale, rtol=0
    )


def old_form(path):
    """Nodes as plain booleans, as EAP-IG wrote them at first; nothing of d_model."""
    record = json.loads(path.read_text())
    record["nodes"] = {name: node["in_graph"] for name, node in record["nodes"].items()}
    del record["cfg"]["d_model"]
    path.write_text(json.dumps(record))
    return path


def test_old_form_and_node_scores(tmp_path):
    layout = LAYOUTS[0]
    scores = random_scores(layout)
    path = old_form(write_graph(tmp_path / "g.json", d_model=8, scores=scores))
    assert torch.equal(read_scores(path).matrix, scores.matrix)
    assert GraphFile.read(path).node_scores() == {}
    record = json.loads(path.read_text())
    record["nodes"] = {"input": {"in_graph": True, "score": float("nan")}}
    record["nodes"]["a0.h1"] = {"in_graph": True, "score": 0.5}
    for edge in record["edges"].values():
        edge["score"] = 0.0
    path.write_text(json.dumps(record))
    assert GraphFile.read(path).node_scores() == {"a0.h1": 0.5}
    with pytest.raises(CircuitsError, match="all zero; its scores are of nodes"):
        read_scores(path)


def test_circuits_may_list_only_their_edges(tmp_path):
    layout = LAYOUTS[0]
    path = write_graph(tmp_path / "g.json", d_model=8, circuit=Circuit.full(layout))
    record = json.loads(path.read_text())
    record["edges"] = {"m1->logits": {"in_graph": True}, "m0->m1": {"in_graph": False}}
    path.write_text(json.dumps(record))
    assert read_circuit(path).edges == ("m1->logits",)


FIRST = "input->a0.h0<q>"


def changed(edge=FIRST, **properties):
    def change(record):
        record["edges"].setdefault(edge, {}).update(properties)

    return change


def without(*keys):
    def change(record):
        for key in keys[:-1]:
            record = record[key]
        del record[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "read", "message"),
    [
        (without("cfg"), read_scores, "it has no 'cfg'"),
        (without("nodes"), read_circuit, "it has no 'nodes'"),
        (without("cfg", "n_heads"), read_scores, "cfg needs n_layers and n_heads"),
        (lambda r: r["cfg"].update(n_layers="two"), read_scores, "cfg needs n_layers"),
        (lambda r: r["cfg"].update(n_heads=0), read_scores, "every count must be at least 1"),
        (lambda r: r["cfg"].update(n_heads=10**9), read_scores, "no model has so many"),
        (lambda r: r["cfg"].update(n_layers=1), read_scores, "no reader 'a1.h0<k>' in this model"),
        (changed("m1->m0", score=1.0, in_graph=True), read_circuit, "m1 is computed after m0"),
        (changed("m1->a9.h0", score=1.0), read_scores, "'m1->a9.h0'"),
        (changed("nonsense", score=1.0), read_scores, "'nonsense' is not an edge"),
        (changed(score=float("nan")), read_scores, f"edge {FIRST}: its score is not finite"),
        (changed(score="high"), read_scores, f"edge {FIRST}: 'high' is no number"),
        (changed(score=None), read_scores, f"edge {FIRST}: score is missing"),
        (changed(in_graph="yes"), read_circuit, f"edge {FIRST}: in_graph is missing or malformed"),
        (without("edges", FIRST), read_scores, f"edge {FIRST} has no score"),
        (lambda r: r.update(edges=[]), read_scores, "edges should be names"),
    ],
)
def test_malformed_files_are_refused_by_name(change, read, message, tmp_path):
    layout = LAYOUTS[0]
    file = tmp_path / "mine.json"
    write_graph(file, d_model=8, scores=random_scores(layout), circuit=Circuit.full(layout))
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))
    with pytest.raises(CircuitsError) as error:
        read(file)
    assert "mine.json" in str(error.value) and message in str(error.value)


def test_malformed_tensors_and_texts_are_refused(tmp_path):
    layout = LAYOUTS[0]
    path = write_graph(tmp_path / "g.pt", d_model=8, scores=random_scores(layout))
    record = torch.load(path)
    halves = {**record, "edges_in_graph": record["edges_scores"].new_full(layout.shape, 0.5)}
    torch.save(halves, tmp_path / "halves.pt")
    with pytest.raises(CircuitsError, match=r"halves\.pt: edges_in_graph holds 0\.5, which is not"):
        read_circuit(tmp_path / "halves.pt")
    for content in (b"junk", b"", b"\x80\x02}q"):
        (tmp_path / "junk.pt").write_bytes(content)
        with pytest.raises(CircuitsError, match=r"junk\.pt: not a graph file of EAP-IG"):
            read_scores(tmp_path / "junk.pt")
    record["edges_scores"] = record["edges_scores"][:, 1:]
    torch.save(record, path)
    with pytest.raises(CircuitsError, match=r"g\.pt: edges_scores should be \(9, 21\)"):
        read_scores(path)
    for name in ("text.pt", "text.json", "list.json"):
        (tmp_path / name).write_text("[]" if name == "list.json" else "no graph")
        with pytest.raises(CircuitsError, match=name):
            read_scores(tmp_path / name)
    with pytest.raises(CircuitsError, match=r"nothing\.pt"):
        read_scores(tmp_path / "nothing.pt")


@pytest.mark.usefixtures("untyped")
def test_what_cannot_be_converted_is_refused(tmp_path):
    layout = LAYOUTS[1]
    scores = random_scores(layout)
    path = write_graph(tmp_path / "g.json", d_model=8, circuit=Circuit.full(layout))
    with pytest.raises(CircuitsError, match="edges are all zero"):
        read_scores(path)
    record = json.loads(path.read_text())
    record["edges"]["input->a1.h3<k>"]["in_graph"] = False
    path.write_text(json.dumps(record))
    assert len(read_circuit(path)) == ungrouped(layout).n_edges - 1
    with pytest.raises(CircuitsError, match="1 of the 2 query heads that share input"):
        read_circuit(path, kv_heads=2)
    with pytest.raises(CircuitsError, match="kv_heads 3"):
        read_circuit(path, kv_heads=3)
    with pytest.raises(CircuitsError, match="unknown score_sign 'luck'; known: loss, metric"):
        read_scores(path, score_sign="luck")
    with pytest.raises(CircuitsError, match="unknown kv_reduction 'all'; known: sum, mean"):
        read_scores(path, kv_reduction="all")
    with pytest.raises(CircuitsError, match=r"write a \.json or a \.pt"):
        write_graph(tmp_path / "g.txt", d_model=8, scores=scores)
    with pytest.raises(CircuitsError, match="give scores, a circuit, or both of one model"):
        write_graph(tmp_path / "g.json", d_model=8)
    with pytest.raises(CircuitsError, match="give scores, a circuit, or both of one model"):
        write_graph(tmp_path / "g.json", d_model=8, scores=scores, circuit=Circuit.full(LAYOUTS[0]))
