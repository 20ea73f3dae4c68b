"""Nodes and neurons against plain autograd, and against the edges that they are made of."""

import inspect

import pytest
import torch
from conftest import CONFIGS
from oracles.node_effects import NodeEffects

import circuits
from circuits.attribution import attribute_nodes
from circuits.attribution.quadrature import rule
from circuits.errors import CircuitsError
from circuits.graph import NodeScores
from circuits.metrics import METRICS
from circuits.options.run import RunOptions


def close(found, expected, tolerance=1e-5):
    largest = float(expected.abs().max())
    assert largest > 1e-3, "the reference is all but zero; the comparison says nothing"
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * largest


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_neurons_equal_plain_autograd(name, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2, answers=2, lengths=[9, 7])
    layout, points = model.layout, rule("midpoint", 3)
    oracle = NodeEffects(model.hf, layout.n_heads, layout.n_kv_heads, model.view.d_head)
    found = attribute_nodes(
        model, pairs, level="neuron", steps=3, per_example=True, options=RunOptions(2)
    )
    for place in range(2):
        batch = pairs.batch([place])

        def metric(logits, batch=batch):
            return METRICS["logit-difference"](logits[0, batch.position], batch).sum()

        expected = oracle.scores(batch.clean, batch.corrupted, metric, points.nodes, points.weights)
        close(found.per_example[place], expected)
    assert torch.allclose(found.values, found.per_example.mean(dim=0), atol=1e-7)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "bart"])
def test_a_node_is_the_sum_of_its_edges(name, hooked, random_pairs):
    """On every architecture but BART, whose norms change what a source brings on its way."""
    model, pairs = hooked(name), random_pairs(n=2)
    edges = circuits.attribute(model, pairs, "eap-ig", steps=2, per_example=True)
    nodes = attribute_nodes(model, pairs, "eap-ig", steps=2, per_example=True)
    close(nodes.per_example, edges.per_example.sum(dim=2))
    assert nodes.provenance.error.worst == pytest.approx(edges.provenance.error.worst, rel=1e-4)


def test_post_norm_nodes_are_scored_where_they_write(hooked, random_pairs):
    """BART: the gradient at a hook's place, one head and one MLP, by plain autograd."""
    model, pairs = hooked("bart"), random_pairs(n=1)
    found = attribute_nodes(model, pairs, "eap")
    batch, written = pairs.batch([0]), {}

    def run(tokens):
        handles = [
            module.register_forward_hook(
                lambda m, _, out: written.setdefault(m, out.retain_grad() or out)
            )
            for module in (layer.self_attn.out_proj, layer.fc2)
        ]
        with torch.enable_grad():
            logits = model.logits(tokens, batch)
        for handle in handles:
            handle.remove()
        taken = [written.pop(module) for module in (layer.self_attn.out_proj, layer.fc2)]
        return logits, taken

    layer = model.hf.model.encoder.layers[1]
    embedding = model.hf.get_input_embeddings().weight
    embedding.requires_grad_()
    try:
        logits, clean = run(batch.clean)
        METRICS["logit-difference"](logits, batch).sum().backward()
        gradients = [out.grad for out in clean]
        _, corrupted = run(batch.corrupted)
    finally:
        embedding.requires_grad_(False)
        embedding.grad = None
    effects = [
        float(((a - b) * g).sum().detach())
        for a, b, g in zip(clean, corrupted, gradients, strict=True)
    ]
    heads = sum(found[f"enc.a1.h{head}"] for head in range(model.layout.n_heads))
    assert abs(effects[0]) > 1e-3 and heads == pytest.approx(effects[0], rel=1e-4)
    assert found["enc.m1"] == pytest.approx(effects[1], rel=1e-4)
    assert found["bias"] == 0 and found["input"] == 0 and found["enc.input"] != 0


@pytest.mark.parametrize("name", ["gpt2", "gpt-neox", "opt", "t5"])
def test_units_add_up_to_their_node(name, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2)
    nodes = attribute_nodes(model, pairs, steps=2)
    neurons = attribute_nodes(model, pairs, level="neuron", steps=2)
    close(neurons.nodes, nodes.values)
    mlp = model.view.mlps[0].place
    assert neurons.widths[mlp.row] > model.view.d_model and neurons.widths[0] == 1
    assert neurons.widths[model.layout.attentions[0].rows.start] == model.view.d_head
    assert sum(neurons.widths) == len(neurons.values) > len(nodes.values)


@pytest.mark.exhaustive  # the same points as for edges
def test_auto_refines_nodes_too(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=3)
    exact = attribute_nodes(model, pairs, steps=300)
    found = attribute_nodes(model, pairs, steps="auto", tolerance=0.005)
    assert found.provenance.error.worst <= 0.005 < 1
    assert found.provenance.error.gradients > 3 and found.units.level == "node"
    assert float((found.values - exact.values).abs().sum() / exact.values.abs().sum()) < 0.01


@pytest.mark.parametrize("level", ["node", "neuron"])
def test_save_and_load(level, hooked, random_pairs, tmp_path):
    model, pairs = hooked("llama"), random_pairs(n=2)
    found = attribute_nodes(model, pairs, level=level, steps=1, per_example=True)
    found.save(tmp_path)
    loaded = NodeScores.load(tmp_path)
    assert torch.equal(loaded.values, found.values) and loaded.widths == found.widths
    assert torch.equal(loaded.per_example, found.per_example)
    assert loaded.provenance == found.provenance and loaded.layout == found.layout
    first = (tmp_path / f"{level}_scores.safetensors").read_bytes()
    assert found.save(tmp_path, "again").read_bytes() == first


def test_names_of_units(hooked):
    layout = hooked("llama").layout
    widths = [1 if name == "input" else 3 if name[0] == "a" else 5 for name in layout.sources]
    values = torch.arange(sum(widths)).float()
    scores = NodeScores(values, layout, tuple(widths), "eap")
    assert scores["input"] == 0 and scores["a0.h1[2]"] == 6 and scores["a0.h1"] == 4 + 5 + 6
    assert scores["m0[4]"] == 1 + 4 * 3 + 4
    assert scores.units.name(6) == "a0.h1[2]" and scores.units.name(0) == "input"
    assert scores.top(2) == [(f"m2[{unit}]", float(values[-5 + unit])) for unit in (4, 3)]
    assert [scores[name] for name in layout.sources] == scores.nodes.tolist()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a9.h0", "'a9.h0': no such source in this model"),
        ("m0[5]", r"'m0\[5\]': m0 has 5 units"),
        ("m0[x]", "no such source"),
    ],
)
def test_unknown_units(name, message, hooked):
    layout = hooked("llama").layout
    widths = tuple(5 if node.kind == "mlp" else 1 for node in layout.source_nodes)
    with pytest.raises(CircuitsError, match=message):
        NodeScores(torch.zeros(sum(widths)), layout, widths, "eap")[name]


def test_refusals(hooked, random_pairs, tmp_path):
    model, pairs = hooked("gpt2"), random_pairs(n=1)
    layout, ones = model.layout, (1,) * len(model.layout.sources)
    for settings, message in (
        ({"level": "layer"}, "unknown level 'layer'; known: edge, node, neuron"),
        ({"method": "exact"}, "exact scores edges only"),
        ({"method": "information-flow"}, "information-flow scores edges only"),
        ({"metric": "accuracy"}, "accuracy has no gradient"),
    ):
        with pytest.raises(CircuitsError, match=message):
            inspect.unwrap(attribute_nodes)(model, pairs, **settings)
    with pytest.raises(CircuitsError, match="each source needs one"):
        NodeScores(torch.zeros(2), layout, (1, 1), "eap")
    with pytest.raises(CircuitsError, match="2 scores for sources of"):
        NodeScores(torch.zeros(2), layout, ones, "eap")
    with pytest.raises(CircuitsError, match="the score of m0 is not finite"):
        values = torch.zeros(len(ones))
        values[layout.sources.index("m0")] = torch.nan
        NodeScores(values, layout, ones, "eap")
    with pytest.raises(CircuitsError, match="no such score file; write one with `circuits disc"):
        NodeScores.load(tmp_path)
    circuits.attribute(model, pairs, "random").save(tmp_path, "node_scores")
    with pytest.raises(CircuitsError, match="of kind edge-scores, where node-scores is read"):
        NodeScores.load(tmp_path)
