"""The scale of attention is the model's own, whatever it is made of, on every architecture."""

from dataclasses import replace

import pytest
import torch
import transformers
from conftest import CONFIGS, make_model

from circuits.model_diff.attention import Attention, Pattern
from circuits.model_diff.trace import run_layers
from circuits.models import HookedModel

OTHER_SCALES = {
    "gemma2, 1 / sqrt(40)": ("gemma2", {"query_pre_attn_scalar": 40}),
    "gemma3, 1 / sqrt(40)": ("gemma3", {"query_pre_attn_scalar": 40}),
    "gpt2, 1": ("gpt2", {"scale_attn_weights": False}),
    "gpt2, by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
}
PATTERNS = ("bloom", "gemma2", "gptj")  # run eagerly, and are asked for what they used
WHOLE = slice(0, 10)


def model_of(name, implementation=None):
    """A model of `CONFIGS` or of another scale, with the weights of the former."""
    kind, changes = OTHER_SCALES.get(name, (name, {}))
    config = CONFIGS[kind]()
    config.update(changes)
    settings = {} if implementation is None else {"attn_implementation": implementation}
    model = transformers.AutoModelForCausalLM.from_config(config, **settings)
    model.load_state_dict(make_model(kind).state_dict())
    return model.eval()


def distributions(attention):
    return attention.log_probabilities(WHOLE).exp()


@pytest.mark.parametrize("name", [*sorted(CONFIGS), *OTHER_SCALES])
def test_attention_is_the_eager_models_and_another_scale_would_show(name):
    tokens = torch.randint(1, 400, (2, 10), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        patterns = model_of(name, "eager")(tokens, output_attentions=True).attentions
    layers = run_layers(HookedModel(model_of(name), None, name), tokens, torch.ones(2, 10).bool())
    assert len(layers) == len(patterns) == 3
    for layer, (one, pattern) in enumerate(zip(layers, patterns, strict=True)):
        assert torch.allclose(distributions(one.attention), pattern, atol=1e-5), layer
        assert isinstance(one.attention, Pattern) == name.startswith(PATTERNS)
        if isinstance(one.attention, Pattern):
            continue
        usual = one.attention.query.shape[-1] ** -0.5
        wrong = {1.0, usual, 2 * one.attention.scale} - {one.attention.scale}
        for scale in wrong - ({usual} if name in CONFIGS else set()):
            away = distributions(replace(one.attention, scale=scale)) - pattern
            assert float(away.abs().max()) > 0.01, (layer, scale)


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize("masked", ["causal", "seen", "added"])
def test_a_call_is_read_as_torch_runs_it(scale, kv_heads, masked):
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 10, 8, generator=draw)
    key = torch.randn(2, kv_heads, 10, 8, generator=draw)
    value = torch.eye(10).expand(2, kv_heads, 10, 10)  # the output is the pattern
    seen = torch.ones(10, 10, dtype=torch.bool).tril().triu(-4)
    mask = {
        "causal": None,
        "seen": seen[None, None],
        "added": torch.where(seen, 0.0, -torch.inf)[None, None],
    }[masked]
    call = (query, key, value, mask, 0.0, mask is None)
    settings = {"scale": scale, "enable_gqa": kv_heads == 2}
    expected = torch.nn.functional.scaled_dot_product_attention(*call, **settings)
    found = distributions(Attention.of_call(*call, **settings))
    assert torch.allclose(found, expected, atol=1e-6)
