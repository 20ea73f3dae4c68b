"""The check at load: what it sees with parts switched off, and that depth costs no more than once.

What it sees in models whose parts all work stands in test_models.py.
"""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import transformers
from conftest import CONFIGS, make_model, randomised

import circuits
from circuits.errors import CircuitsError
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from circuits.models.norm import Norm
from circuits.models.running import Running
from circuits.models.selfcheck import check_view
from circuits.models.view import Rescales, WritesMLP, input_major

MODELS = ("gpt2", "gemma2", "qwen3", "gpt-neox", "t5", "bart")


def off(model, *parts):
    """Set parts of all layers to zero."""
    with torch.no_grad():
        for attention in model.view.attentions:
            for projection in attention.projections:
                weight, bias = projection.heads(input_major(projection.module)), projection.bias
                heads = slice(-1, None) if "last head" in parts else slice(None)
                if "last head" in parts or projection.port in parts:
                    weight[:, heads] = 0
                    if bias is not None:
                        bias[heads] = 0
            if "W_O" in parts:
                input_major(attention.output).zero_()
        for mlp in model.view.mlps:
            if "MLP" in parts:
                input_major(mlp.hidden).zero_()
        if "unembedding" in parts:
            model.hf.get_output_embeddings().weight.zero_()


PARTS = [
    ("last head",),
    ("q",),
    ("k",),
    ("v",),
    ("W_O",),
    ("MLP",),
    ("unembedding",),
    ("q", "unembedding"),  # as muP starts
    ("q", "k", "v", "W_O", "MLP", "unembedding"),
]


@contextmanager
def parts_off(model, parts):
    kept = {name: value.clone() for name, value in model.hf.state_dict().items()}
    off(model, *parts)
    try:
        yield
    finally:
        model.hf.load_state_dict(kept)


@contextmanager
def exchanged(owner, name, value):
    right = getattr(owner, name)
    object.__setattr__(owner, name, value)
    try:
        yield
    finally:
        object.__setattr__(owner, name, right)


def misplaced(model, ports="kqv"):
    attention = model.view.attentions[0]
    places = {p.port: p for p in attention.projections}
    wrong = tuple(
        replace(places[other], port=port) for port, other in zip("qkv", ports, strict=True)
    )
    return exchanged(attention, "projections", wrong)


@pytest.mark.parametrize("parts", PARTS, ids=" and ".join)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.exhaustive_but("gpt2-*", "bart-*", "*-q and unembedding", "*-last head")
def test_parts_that_are_off_are_no_fault_and_hide_none(name, parts, hooked):
    model = hooked(name)
    before = model.hf.state_dict()["lm_head.weight"].clone()
    with parts_off(model, parts):
        bytes_before = [p.clone() for p in model.hf.parameters()]
        check_view(model)
        pairs = zip(model.hf.parameters(), bytes_before, strict=True)
        assert all(torch.equal(now, then) for now, then in pairs), "the weights are put back"
        with misplaced(model), pytest.raises(CircuitsError, match="is not where the view says"):
            check_view(model)
        assert all(
            torch.equal(*both) for both in zip(model.hf.parameters(), bytes_before, strict=True)
        )
    assert torch.equal(model.hf.state_dict()["lm_head.weight"], before) and before.any()


@pytest.mark.parametrize("name", ["gemma2", "olmo2"])
def test_a_norm_left_out_is_seen_behind_heads_that_write_nothing(name, hooked):
    model = hooked(name)
    with parts_off(model, ["W_O", "unembedding"]):
        check_view(model)
        for attention in model.view.attentions:
            with exchanged(attention, "post", None), pytest.raises(CircuitsError, match="every"):
                check_view(model)


def test_a_norm_on_the_stream_left_out_is_seen_behind_an_unembedding_of_zeros(hooked):
    model = hooked("bart")
    stream = model.view.streams[0]
    events = tuple(e for e in stream.events if not isinstance(e, Rescales))
    refused = pytest.raises(CircuitsError, match="with every edge kept")
    with parts_off(model, ["unembedding", "q"]), exchanged(stream, "events", events), refused:
        check_view(model)


@pytest.mark.parametrize("name", ["gemma2", "olmo2"])
def test_narrow_types_are_allowed_more_and_a_norm_left_out_is_still_seen(name):
    model = HookedModel(make_model(name).to(torch.bfloat16), None, name)
    check_view(model)
    refused = pytest.raises(CircuitsError, match=r"are missed by .* of their largest")
    with exchanged(model.view.attentions[0], "post", None), refused:
        check_view(model)


@pytest.mark.parametrize("name", ["llama", "t5", "gptj"])
def test_a_source_left_out_is_seen(name, hooked):
    model = hooked(name)
    stream = model.view.streams[-1]
    last = [event for event in stream.events if isinstance(event, WritesMLP)][-1]
    events = tuple(event for event in stream.events if event is not last)
    with exchanged(stream, "events", events), pytest.raises(CircuitsError, match="just what was"):
        check_view(model)


@pytest.mark.parametrize("name", ["llama", "gpt-neox", "t5"])
def test_an_order_of_sources_that_is_not_the_runs_is_seen(name, hooked):
    """As of a layout that takes attention and MLP to run one after the other, or side by side."""
    model = hooked(name)
    wrong = replace(model.layout, parallel=not model.layout.parallel)
    with exchanged(model.view, "layout", wrong), pytest.raises(CircuitsError, match="view is"):
        check_view(model)


def test_zeros_keep_their_sign(hooked):
    model = hooked("llama")
    weight = model.view.mlps[0].hidden.weight
    with parts_off(model, ["MLP"]), torch.no_grad():
        weight[0] = -0.0
        check_view(model)
        assert weight[0].signbit().all() and not weight[1].signbit().any()


def test_the_kind_of_a_norm_shows_whatever_its_weights_are():
    for module in (torch.nn.LayerNorm(8), torch.nn.RMSNorm(8, eps=1e-6)):
        torch.nn.init.zeros_(module.weight)
        assert Norm.of(module).kind == (
            "layer" if isinstance(module, torch.nn.LayerNorm) else "rms"
        )
    gemma = make_model("gemma2").model.norm
    with torch.no_grad():
        gemma.weight.fill_(-1)
    assert Norm.of(gemma).kind == "rms" and not Norm.of(gemma).weight.any()


@pytest.mark.parametrize(
    ("name", "norms", "off"),
    [
        ("gemma2", "post_attention_layernorm", -1.0),  # what it multiplies with is 1 + weight
        ("olmo2", "post_attention_layernorm", 0.0),
        ("olmo2", "q_norm", 0.0),
        ("qwen3", "q_norm", 0.0),
        ("gemma3", "k_norm", -1.0),
        ("llama", "input_layernorm", 0.0),
    ],
)
def test_norms_that_let_nothing_through(name, norms, off):
    hf = make_model(name)
    for path, module in hf.named_modules():
        if path.endswith(norms):
            torch.nn.init.constant_(module.weight, off)
    model = HookedModel(hf, None, name)
    with misplaced(model, "qvk"), pytest.raises(CircuitsError, match="is not where the view says"):
        check_view(model)


def test_a_head_that_is_off_scores_nothing_and_the_others_as_before(tmp_path, random_pairs):
    hf = make_model("gpt2")
    with torch.no_grad():  # head 3 of layer 0, its query and its output
        hf.transformer.h[0].attn.c_attn.weight[:, 24:32] = 0
        hf.transformer.h[0].attn.c_attn.bias[24:32] = 0
        hf.transformer.h[0].attn.c_proj.weight[24:32] = 0
    hf.save_pretrained(tmp_path)
    model = HookedModel.from_pretrained(tmp_path, device="cpu")
    pairs = random_pairs(n=2)
    scores = circuits.attribute(model, pairs, "eap")
    row, exact = model.layout.sources.index("a0.h3"), circuits.attribute(model, pairs, "exact")
    for matrix in (scores.matrix, exact.matrix):
        largest = matrix.abs().amax(dim=1)
        assert largest[row] <= 1e-5 * largest.max() and largest[row - 1] > 1e-3 * largest.max()


def test_twice_the_depth_costs_twice(monkeypatch):
    """Additions to the sums, of every stream and reader, by the number of layers."""
    counts = {}
    real = Running._past
    for depth in (3, 6, 12):
        seen = []
        monkeypatch.setattr(
            Running, "_past", lambda *arguments, seen=seen: seen.append(0) or real(*arguments)
        )
        config = transformers.LlamaConfig(
            **{**CONFIGS["llama"]().to_dict(), "num_hidden_layers": depth}
        )
        HookedModel(randomised(config), None, "deep")
        counts[depth] = len(seen)
    # Per layer the heads' readers, the heads, the MLP's reader, the MLP.
    assert counts == {depth: 4 * depth for depth in counts}


def test_hooks_of_a_part_see_that_part(hooked):
    module, seen, hooks = torch.nn.Identity(), [], Hooks()
    hooks.for_part(1, 3).after(module, seen.append)
    with hooks:
        module(torch.arange(6).view(6, 1))
    assert seen[0].flatten().tolist() == [2, 3]
