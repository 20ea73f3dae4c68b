"""RelP and GIM against stop-gradients on split paths, and what must hold of their rules."""

from functools import partial

import pytest
import torch
import transformers
from conftest import CONFIGS, ENCODER_DECODERS, make_model, randomised
from oracles import corrected as oracle
from oracles.encoder_decoder import EncoderDecoderPaths
from oracles.node_effects import NodeEffects
from oracles.split_paths import SplitPaths

import circuits
from circuits.attribution import attribute_nodes
from circuits.attribution.corrected import CorrectedMethod
from circuits.attribution.eap import EAP
from circuits.errors import CircuitsError, UnsupportedError
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.models.backward.rules import BackwardRules
from circuits.models.hooks import Hooks
from circuits.options.run import RunOptions

WAYS = {
    "relp": ({"method": "relp"}, oracle.RELP),
    "relp-constant": ({"method": "relp", "attention": "constant"}, oracle.RELP_CONSTANT),
    "gim": ({"method": "gim"}, oracle.GIM),
}
KEPT = ("gpt2-relp", "gpt2-gim", "gemma2-relp-constant", "qwen3-gim", "bloom-gim", "gptj-relp")


def ruled(given):
    """A method of these rules."""

    class Ruled(CorrectedMethod):
        name = "ruled"
        cost = EAP.cost
        rules = given

    return Ruled()


def close(found, expected, tolerance=1e-5):
    largest = float(expected.abs().max())
    assert largest > 1e-3, "the reference is all but zero; the comparison says nothing"
    assert float((found - expected).abs().max()) <= tolerance * largest


def value_of(batch):
    return lambda logits: METRICS["logit-difference"](logits[0, batch.position], batch).sum()


def far(one, other):
    return float((one - other).abs().max()) > 1e-2 * float(other.abs().max())


def split_scores(plain, model, pairs):
    view = model.view
    paths = SplitPaths(plain, view.layout.n_heads, view.layout.n_kv_heads, view.d_head)
    return torch.stack(
        [
            paths.scores(batch.clean, batch.corrupted, value_of(batch), [1.0], [1.0])
            for batch in (pairs.batch([place]) for place in range(len(pairs)))
        ]
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.exhaustive_but(*KEPT)
def test_equals_stop_gradients_on_every_architecture(name, way, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2)
    settings, stops = WAYS[way]
    found = circuits.attribute(model, pairs, **settings, per_example=True)
    plain = make_model(name)
    with oracle.corrected(plain, stops):
        expected = split_scores(plain, model, pairs)
    close(found.per_example, expected)
    assert not found.matrix[~found.mask].any() and found.provenance.error is None
    assert far(found.per_example, circuits.attribute(model, pairs, "eap").matrix)
    nodes = attribute_nodes(model, pairs, **settings, per_example=True)
    close(nodes.per_example, expected.sum(dim=2))


GATED_T5 = {
    "feed_forward_proj": "gated-gelu",
    "is_gated_act": True,
    "dense_act_fn": "gelu_new",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "other"), [("t5", {}), ("t5", GATED_T5), ("bart", {})])
@pytest.mark.exhaustive_but("bart-other2-gim", "t5-other1-relp")
def test_equals_stop_gradients_on_encoder_decoders(name, other, way, random_pairs):
    config = ENCODER_DECODERS[name]()
    config = type(config)(**{**config.to_dict(), **other})
    model, plain = HookedModel(randomised(config), None, name), randomised(config)
    settings, stops = WAYS[way]
    pairs, expected = random_pairs(n=2, answers=3), []
    with oracle.corrected(plain, stops):
        paths = EncoderDecoderPaths(plain, model.layout.n_heads, model.view.d_head)
        for place in range(len(pairs)):
            batch = pairs.batch([place])
            prompt, answer = len(pairs[place].clean), pairs[place].teacher_forced
            decoder = torch.tensor([[config.decoder_start_token_id, *answer]])

            def value(logits, batch=batch):
                return METRICS["logit-difference"](logits[0], batch).sum()

            ends = batch.clean[:, :prompt], batch.corrupted[:, :prompt]
            expected.append(paths.scores(*ends, decoder, value, [1.0], [1.0]))
    found = circuits.attribute(model, pairs, **settings, per_example=True)
    close(found.per_example, torch.stack(expected))
    assert len(model.nonlinear.gated) == (len(model.view.mlps) if other else 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.exhaustive_but("llama-relp", "gpt2-gim")
def test_neurons_equal_stop_gradients(name, way, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2, answers=2, lengths=[9, 7])
    settings, stops = WAYS[way]
    found = attribute_nodes(
        model, pairs, **settings, level="neuron", per_example=True, options=RunOptions(2)
    )
    plain, layout = make_model(name), model.layout
    effects = NodeEffects(plain, layout.n_heads, layout.n_kv_heads, model.view.d_head)
    with oracle.corrected(plain, stops):
        for place in range(2):
            batch = pairs.batch([place])
            ends = (batch.clean, batch.corrupted)
            expected = effects.scores(*ends, value_of(batch), [1.0], [1.0]).detach()
            close(found.per_example[place], expected)


@pytest.mark.parametrize("method", ["relp", "gim"])
@pytest.mark.parametrize("name", ["phi3", "qwen3", "opt", "bloom", "t5"])
@pytest.mark.exhaustive_but("phi3-relp")
def test_units_add_up_to_their_node(name, method, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2)
    neurons = attribute_nodes(model, pairs, method, level="neuron")
    close(neurons.nodes, attribute_nodes(model, pairs, method).values)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.exhaustive_but("gim")
def test_post_norm_nodes_are_scored_where_they_write(way, hooked, random_pairs):
    """BART: an attention and an MLP, by the gradient where they write."""
    model, pairs, plain = hooked("bart"), random_pairs(n=1), make_model("bart")
    settings, stops = WAYS[way]
    found = attribute_nodes(model, pairs, **settings)
    batch = pairs.batch([0])
    length = len(pairs[0].clean)
    decoder = torch.tensor([[plain.config.decoder_start_token_id]])
    layer = plain.model.encoder.layers[0]

    def run(tokens):
        outputs = []

        def keep(_, __, out):
            out = out if out.requires_grad else out.requires_grad_()
            out.retain_grad()
            outputs.append(out)

        handles = [one.register_forward_hook(keep) for one in (layer.self_attn.out_proj, layer.fc2)]
        logits = plain(input_ids=tokens[:, :length], decoder_input_ids=decoder).logits
        for handle in handles:
            handle.remove()
        return logits, outputs

    with oracle.corrected(plain, stops):
        logits, clean = run(batch.clean)
        METRICS["logit-difference"](logits[0], batch).sum().backward()
        _, corrupted = run(batch.corrupted)
    attention, mlp = (
        float(((a - b) * a.grad).sum().detach()) for a, b in zip(clean, corrupted, strict=True)
    )
    heads = sum(found[f"enc.a0.h{head}"] for head in range(model.layout.n_heads))
    assert abs(attention) > 1e-3 and heads == pytest.approx(attention, rel=1e-4)
    assert abs(mlp) > 1e-3 and found["enc.m0"] == pytest.approx(mlp, rel=1e-4)


NEUTRAL = BackwardRules(gate_share=1.0, score_share=1.0, value_share=1.0, temperature=1.0)


@pytest.mark.parametrize("name", [*CONFIGS, *ENCODER_DECODERS])
@pytest.mark.exhaustive_but("gemma2", "bloom")
def test_rules_that_change_nothing_are_eap(name, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2, answers=2, lengths=[9, 7])
    expected = circuits.attribute(model, pairs, "eap").matrix
    close(circuits.attribute(model, pairs, ruled(NEUTRAL)).matrix, expected, 1e-6)
    assert torch.equal(circuits.attribute(model, pairs, ruled(BackwardRules())).matrix, expected)


@pytest.mark.parametrize("name", ["opt", "t5"])
@pytest.mark.exhaustive_but("opt")
def test_the_ratio_of_a_relu_is_its_gradient(name, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2)
    expected = circuits.attribute(model, pairs, "eap").matrix
    found = circuits.attribute(model, pairs, ruled(BackwardRules(activation_ratios=True)))
    close(found.matrix, expected, 1e-6)


def test_relp_of_what_is_linear_is_eap(random_pairs):
    """A GPT-2 whose attention is the same everywhere and whose norms see one length."""
    config = transformers.GPT2Config(
        **{**CONFIGS["gpt2"]().to_dict(), "activation_function": "linear", "n_layer": 2}
    )
    plain = randomised(config)
    with torch.no_grad():
        for block in plain.transformer.h:
            block.attn.c_attn.weight[:, : 2 * config.n_embd] = 0
            block.attn.c_attn.bias[: 2 * config.n_embd] = 0
        for norm in (m for m in plain.modules() if isinstance(m, torch.nn.LayerNorm)):
            norm.eps = 1e6  # so that the scale is all but a constant
            norm.weight.mul_(1e3)
    model, pairs = HookedModel(plain, None, "linear"), random_pairs(n=2)
    expected = circuits.attribute(model, pairs, "eap").matrix
    close(circuits.attribute(model, pairs, "relp").matrix, expected, 1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma", "qwen3", "phi3", "olmo2", "t5"])
@pytest.mark.exhaustive_but("llama", "qwen3")
def test_relevance_is_conserved_where_nothing_is_added(name, hooked, random_pairs):
    """No biases: all relevance of the metric comes from the embedding, and all arrives there."""
    model, pairs = hooked(name), random_pairs(n=2, seed=1)
    batch = pairs.batch([0, 1])
    leaves = []

    def enter(x):
        leaves.append(x.detach().requires_grad_())
        return leaves[-1]

    given = circuits.attribution.method("relp", attention="constant").rules
    found = {}
    for kind, rules in (("relp", given), ("gradient", BackwardRules())):
        leaves.clear()
        hooks = Hooks()
        for stream in model.view.streams:
            hooks.before(stream.entry, enter)
        with rules.followed(model, hooks), torch.enable_grad():
            logits = model.logits(batch.clean, batch, hooks)
            metric = METRICS["logit-difference"](logits, batch).sum()
            gradients = torch.autograd.grad(metric, leaves)
        found[kind] = sum(
            float((x.detach() * g).sum()) for x, g in zip(leaves, gradients, strict=True)
        )
    assert abs(float(metric.detach())) > 1e-2
    assert found["relp"] == pytest.approx(float(metric.detach()), rel=1e-4)
    assert found["gradient"] != pytest.approx(float(metric.detach()), rel=0.1)


@pytest.mark.parametrize("method", ["relp", "gim"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
@pytest.mark.exhaustive_but("llama-gim", "gpt2-relp")
def test_batches_prefixes_and_recomputation_change_nothing(
    name, method, hooked, random_pairs, monkeypatch
):
    model = hooked(name)
    pairs = random_pairs(n=4, answers=2, lengths=[9, 14, 6, 9])
    alone = circuits.attribute(model, pairs, method, options=RunOptions(1), per_example=True)
    again = RunOptions(4, recompute=True)
    together = circuits.attribute(model, pairs, method, options=again, per_example=True)
    close(together.per_example, alone.per_example, 5e-6)
    monkeypatch.setattr(HookedModel, "share_prefix", lambda _, batch: (batch, None))
    whole = circuits.attribute(model, pairs, method, options=RunOptions(4), per_example=True)
    close(whole.per_example, alone.per_example, 5e-6)


@pytest.mark.parametrize("method", ["relp", "gim"])
def test_the_model_is_left_as_it_was(method, hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=1)
    before = circuits.attribute(model, pairs, "eap").matrix
    circuits.attribute(model, pairs, method)
    assert torch.equal(circuits.attribute(model, pairs, "eap").matrix, before)
    assert not any("forward" in vars(module) for module in model.hf.modules())


def test_both_factors_of_a_gate_by_hand(random_pairs):
    """One Llama layer's MLP at one number: silu(g) u, by hand."""
    model = HookedModel(make_model("llama"), None, "llama")
    mlp = model.hf.model.layers[0].mlp
    g, u = torch.tensor(-0.7, dtype=torch.float64), torch.tensor(1.9, dtype=torch.float64)
    silu = g * torch.sigmoid(g)
    batch, seen = random_pairs(n=1).batch([0]), {}
    hooks = Hooks()

    def leaf(name, value, x):
        seen[name] = torch.full_like(x, float(value)).requires_grad_()
        return seen[name]

    hooks.after(mlp.gate_proj, partial(leaf, "g", g))
    hooks.after(mlp.up_proj, partial(leaf, "u", u))
    hooks.before(mlp.down_proj, lambda x: seen.setdefault("h", x))
    rules = circuits.attribution.method("relp").rules
    with rules.followed(model, hooks), torch.enable_grad():
        model.logits(batch.clean, batch, hooks)
        of_g, of_u, of_h = torch.autograd.grad(
            seen["h"].sum(), [seen["g"], seen["u"], seen["h"]], allow_unused=True
        )
    assert float(of_h.mean()) == 1
    assert float(of_u.mean()) == pytest.approx(float(silu / 2), rel=1e-5)
    assert float(of_g.mean()) == pytest.approx(float(silu / g * u / 2), rel=1e-5)


def odd(name, **settings):
    return HookedModel(
        randomised(type(CONFIGS[name]())(**{**CONFIGS[name]().to_dict(), **settings})), None, name
    )


def test_refusals(hooked, random_pairs, untyped):
    model, pairs = hooked("gpt2"), random_pairs(n=1)
    for settings, message in (
        ({"method": "relp", "attention": "some"}, "unknown attention 'some'; known: gradient, con"),
        ({"method": "gim", "temperature": 0.0}, "temperature=0.0: it must be above 0"),
        ({"method": "gim", "steps": 3}, "gim does not take steps; it takes temperature"),
        ({"method": "relp", "metric": "kl-divergence"}, "relp would give rounding noise; take eap"),
        ({"method": "gim", "metric": "accuracy"}, "accuracy has no gradient"),
    ):
        with pytest.raises(CircuitsError, match=message):
            circuits.attribute(model, pairs, **settings)
    sigmoid = odd("gpt2", activation_function="sigmoid")
    with pytest.raises(UnsupportedError, match=r"GPT2LMHead.*Sigmoid gives 0.5 at 0, .* by eap or"):
        circuits.attribute(sigmoid, pairs, "relp")
    assert circuits.attribute(sigmoid, pairs, "gim").matrix.any()


def test_what_a_rule_does_not_see_is_refused(random_pairs, monkeypatch):
    """A model with its own attention, norm or MLP: half of the rules would look like all."""
    from transformers.models.llama import modeling_llama as code

    pairs = random_pairs(n=1)

    def attention(module, query, key, value, mask, scaling, **_):
        groups = module.num_key_value_groups
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
        scores = query @ key.transpose(2, 3) * scaling + (0 if mask is None else mask)
        weights = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    monkeypatch.setattr(code, "eager_attention_forward", attention)
    plain = make_model("llama")
    plain.set_attn_implementation("eager")
    model = HookedModel(plain, None, "llama")
    with pytest.raises(UnsupportedError, match=r"a0 computes its weights by 0 of .* sdpa or eager"):
        circuits.attribute(model, pairs, "gim")
    assert circuits.attribute(model, pairs, "relp").matrix.any()
    monkeypatch.undo()

    def functional(self, x):
        gate = torch.nn.functional.silu(self.gate_proj(x))
        return self.down_proj(gate * self.up_proj(x))

    def shifted(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x) + 1)

    for forward, message in (
        (functional, "m0 calls 0 activation functions that are modules of their own"),
        (shifted, "m0 does more with its activation function's output than multiply it"),
    ):
        monkeypatch.setattr(code.LlamaMLP, "forward", forward)
        model = HookedModel(make_model("llama"), None, "llama")
        for method in ("relp", "gim"):
            with pytest.raises(UnsupportedError, match=message):
                circuits.attribute(model, pairs, method)
