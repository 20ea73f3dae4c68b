"""MIB's own counting, against a slow one that shares nothing with it."""

import random

import pytest
import torch
import transformers
from conftest import CONFIGS, randomised
from oracles import mib_counting as slow
from oracles.split_paths import SplitPaths

import circuits
from circuits.errors import CircuitsError
from circuits.evaluation import MIBEvaluation, mib_evaluation
from circuits.evaluation.mib import weighted_edge_count
from circuits.graph import Circuit, EdgeScores, Layout
from circuits.graph.interchange import GraphFile, write_graph
from circuits.graph.ungrouped import ungrouped, ungrouped_scores
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.models.ungrouped import ungrouped_twin


@pytest.mark.parametrize(
    ("layers", "heads", "edges"),
    [(12, 12, 32491), (24, 14, 179749), (26, 8, 74218), (32, 32, 1592881)],
    ids=["gpt2", "qwen2.5", "gemma2", "llama3"],
)
def test_edges_of_mibs_models_are_as_many_as_mib_counts(layers, heads, edges):
    """EDGE_COUNTS of the code that evaluates the leaderboard's submissions."""
    assert ungrouped(Layout(layers, heads, 1)).n_edges == edges


@pytest.mark.parametrize("seed", range(4))
def test_edges_are_counted_as_mib_counts_them(seed):
    layout = Layout(3, 2, 2)
    names = slow.all_edges(3, 2)
    assert sorted(names) == sorted(Circuit.full(layout).edges)
    draw, differ = random.Random(seed), 0
    for size in (3, 8, 15, 25, 40, len(names)):
        edges = set(draw.sample(names, size))
        circuit = Circuit.of(layout, edges)
        assert weighted_edge_count(circuit) == len(slow.pruned_as_selected(edges))
        assert set(circuit.pruned().edges) == slow.pruned_as_run(edges)
        differ += len(slow.pruned_as_selected(edges)) != len(slow.pruned_as_run(edges))
    assert differ  # so the one is not taken for the other


def place(edge, heads):
    """Row and column of an ungrouped edge in the slow executor's matrices."""
    source, reader = edge.split("->")
    width = 3 * heads + 1

    def number(name):
        layer, _, head = name[1:].partition(".h")
        return int(layer), head

    row = 0
    if source != "input":
        layer, head = number(source)
        row = 1 + layer * (heads + 1) + (int(head) if head else heads)
    if reader == "logits":
        return row, -1
    node, _, port = reader.rstrip(">").partition("<")
    layer, head = number(node)
    return row, layer * width + ("qkv".index(port) * heads + int(head) if port else 3 * heads)


def wide_llama(hf):
    """The grouped model with a k and a v for each head, written out head by head."""
    config = hf.config.to_dict() | {"num_key_value_heads": hf.config.num_attention_heads}
    wide = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    weights = dict(hf.state_dict())
    size, group = hf.config.head_dim, hf.config.num_attention_heads // hf.config.num_key_value_heads
    for name, weight in weights.items():
        if "k_proj" in name or "v_proj" in name:
            shared = [weight[i : i + size] for i in range(0, len(weight), size)]
            weights[name] = torch.cat([one for one in shared for _ in range(group)])
    wide.load_state_dict(weights)
    return wide.eval()


@pytest.fixture(scope="module")
def scored(hooked, random_pairs):
    model = hooked("llama")
    return model, circuits.attribute(model, random_pairs(n=4, seed=1)), random_pairs(n=2, seed=2)


@pytest.fixture(scope="module")
def found(scored):
    return mib_evaluation(*scored)


@pytest.mark.parametrize("absolute", [False, True], ids=["cpr", "cmd"])
def test_f_counts_and_areas_equal_the_slow_ones_under_grouped_attention(scored, found, absolute):
    model, scores, pairs = scored
    heads, size = model.layout.n_heads, model.view.d_head
    split = SplitPaths(wide_llama(model.hf), heads, heads, size)
    copies = ungrouped_scores(scores)
    by_name = {edge: copies[edge] for edge in slow.all_edges(model.layout.n_layers, heads)}
    assert len(by_name) == copies.layout.n_edges == found.n_edges
    # Copies of an edge have one score, and then matrix order decides: so are the names ordered.
    last = split.n_readers - 1
    places = {edge: place(edge, heads) for edge in by_name}
    order = sorted(by_name, key=lambda edge: (places[edge][0], places[edge][1] % (last + 1)))
    by_name = {edge: by_name[edge] for edge in order}
    assert len({*by_name.values()}) < len(by_name)

    def mean(logits):
        return sum(
            float(METRICS["logit-difference"](one[b.example_index, b.position], b)[0])
            for one, b in zip(logits, batches, strict=True)
        ) / len(batches)

    batches = [pairs.batch([row]) for row in range(len(pairs))]
    with torch.no_grad():
        clean = mean([split.run(b.clean)[0] for b in batches])
        none = mean([split.run(b.corrupted)[0] for b in batches])
    curve = found.absolute if absolute else found.signed
    f = []
    for share, count, kept in zip(slow.SHARES, curve.edge_counts, curve.kept, strict=True):
        chosen = slow.top(by_name, int(share * len(by_name)), absolute)
        assert count == len(slow.pruned_as_selected(chosen))
        run = slow.pruned_as_run(chosen)
        assert kept == len(run)
        keep = torch.zeros(split.n_sources, split.n_readers, dtype=torch.bool)
        for edge in run:
            keep[place(edge, heads)] = True
        got = mean([split.execute(b.clean, b.corrupted, keep) for b in batches])
        f.append((got - none) / (clean - none))
    assert [one.value for one in curve.faithfulness] == pytest.approx(f, abs=2e-3)
    assert max(f[:-1]) > 0.05 or min(f[:-1]) < -0.05  # something runs between the ends
    under, from_1 = slow.areas(f)
    assert curve.area_under.value == pytest.approx(under, abs=2e-3)
    assert curve.area_from_1.value == pytest.approx(from_1, abs=2e-3)
    assert curve.average == pytest.approx(sum(f) / 10, abs=2e-3)
    assert found.cpr == found.signed.area_under and found.cmd == found.absolute.area_from_1


def test_mibs_file_of_the_same_scores_gives_the_same(scored, found, tmp_path):
    model, scores, pairs = scored
    path = write_graph(tmp_path / "importances.json", d_model=32, scores=scores)
    again = mib_evaluation(model, GraphFile.read(path).scores(), pairs)
    assert again.signed == found.signed and again.absolute == found.absolute
    assert found.in_mibs_form()["CMD"] == {
        "edge_counts": list(found.absolute.edge_counts),
        "faithfulness": [one.value for one in found.absolute.faithfulness],
    }
    assert MIBEvaluation.load(found.save(tmp_path / "mib.json")) == found


def test_nine_circuits_stand_for_scores(scored, found):
    model, scores, pairs = scored
    copies = ungrouped_scores(scores)
    order = circuits.graph.orders.edge_order(copies, "top-n", "signed")
    nine = [
        Circuit.empty(copies.layout).with_only(order[: int(share * found.n_edges)])
        for share in slow.SHARES[:-1]
    ]
    again = mib_evaluation(model, nine[::-1], pairs)
    f = [one.value for one in found.signed.faithfulness]
    assert [one.value for one in again.signed.faithfulness] == pytest.approx(f, abs=1e-5)
    assert again.signed == again.absolute
    assert again.signed.edge_counts == (*map(len, nine), found.n_edges)  # as they are, not pruned
    with pytest.raises(CircuitsError, match="8 circuits; MIB takes scores, or 9 circuits of at mo"):
        mib_evaluation(model, nine[:8], pairs)


def test_scores_of_another_graph_are_refused(scored):
    model, _, pairs = scored
    other = Layout(2, 4, 2)
    scores = EdgeScores(torch.zeros(other.shape), other, "zeros")
    with pytest.raises(CircuitsError, match="the scores or circuits are of"):
        mib_evaluation(model, scores, pairs)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_the_twin_scores_each_copy_and_their_sum_is_the_shared_edges_score(
    hooked, random_pairs, name
):
    model, pairs = hooked(name), random_pairs(n=2, seed=3)
    twin = ungrouped_twin(model)
    assert twin.layout == ungrouped(model.layout) and twin is not model
    assert twin.hf.get_input_embeddings().weight is model.hf.get_input_embeddings().weight
    shared, copies = circuits.attribute(model, pairs), circuits.attribute(twin, pairs)
    for edge in ("input->a1.kv1<k>", "m0->a2.kv0<v>"):
        node = edge.partition(".kv")[0]
        first = 2 * int(edge.partition(".kv")[2][0])
        port = edge[-3:]
        both = sum(copies[f"{node}.h{head}{port}"] for head in (first, first + 1))
        assert both == pytest.approx(shared[edge], rel=1e-3, abs=1e-5)
    assert copies["a0.h1->m2"] == pytest.approx(shared["a0.h1->m2"], rel=1e-3, abs=1e-5)


def test_a_model_without_groups_is_its_own_twin_and_fused_projections_are_refused(hooked):
    assert ungrouped_twin(hooked("gpt2")) is hooked("gpt2")
    fused = HookedModel(randomised(CONFIGS["phi3"]()), None, "phi3")
    with pytest.raises(CircuitsError, match="0 of 3 layers have k_proj and v_proj"):
        ungrouped_twin(fused)
    whole = HookedModel(randomised(CONFIGS["olmo2"]()), None, "olmo2")
    with pytest.raises(CircuitsError, match="edges cannot be counted ungrouped in this archi"):
        ungrouped_twin(whole)
