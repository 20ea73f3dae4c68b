"""Corrected gradients by stop-gradients, written out in the plain Hugging Face model's own places.

For one block of code a model's norms, activation functions, gated MLPs and attentions run formulas
that are written here, of which autograd takes the gradient; where a rule wants another gradient, a
factor is detached. Attention is eager. Nothing here is shared with the package.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from unittest.mock import patch

import torch


@dataclass(frozen=True)
class Stops:
    """ratios: f(x) / x. gate, scores, values: shares of gradients. softer: the softmax's
    temperature; 0 for no gradient at all.
    """

    ratios: bool = False
    gate: float = 0.5
    scores: float = 1.0
    values: float = 1.0
    softer: float = 1.0


RELP = Stops(ratios=True)
RELP_CONSTANT = Stops(ratios=True, softer=0.0)
GIM = Stops(scores=0.25, values=0.5, softer=2.0)

_FUNCTIONS = ("GELU", "SiLU", "ReLU", "Gelu")


def part(x, share):
    return x * share + (x * (1 - share)).detach()


def norm(module):
    kind = type(module).__name__
    eps = getattr(module, "eps", None) or module.variance_epsilon
    weight = module.weight + 1 if kind.startswith("Gemma") else module.weight

    def forward(x):
        if kind == "LayerNorm":
            x = x - x.mean(dim=-1, keepdim=True)
        scale = (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt().detach()
        y = x / scale * weight
        return y + module.bias if kind == "LayerNorm" else y

    return forward


def ratio(module):
    own = module.forward
    return lambda x: x * torch.nan_to_num(own(x) / x).detach()


def gated(module, share):
    if hasattr(module, "gate_proj"):
        return lambda x: module.down_proj(
            part(module.act_fn(module.gate_proj(x)) * module.up_proj(x), share)
        )
    if hasattr(module, "gate_up_proj"):
        size = module.down_proj.weight.shape[1]

        def fused(x):
            both = module.gate_up_proj(x)
            return module.down_proj(
                part(both[..., size:] * module.activation_fn(both[..., :size]), share)
            )

        return fused
    if hasattr(module, "wi_0"):
        return lambda x: module.wo(part(module.act(module.wi_0(x)) * module.wi_1(x), share))
    return None


def softmax(scores, temperature):
    weights = scores.softmax(dim=-1).detach()
    softer = (scores / (temperature or 1.0)).softmax(dim=-1)
    return weights + temperature * (softer - softer.detach())


def mix(stops, q, k, v, bias, scale, cap=None):
    groups = q.shape[1] // k.shape[1]
    q, k, v = part(q, stops.scores), part(k, stops.scores), part(v, stops.values)
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * scale
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    weights = softmax(scores + bias, stops.softer)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v), weights


def attention(stops):
    def forward(_, q, k, v, mask, scaling=None, position_bias=None, softcap=None, **__):
        bias = 0 if mask is None else mask
        bias = bias if position_bias is None else bias + position_bias
        scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
        mixed, weights = mix(stops, q, k, v, bias, scaling, softcap)
        return mixed.transpose(1, 2).contiguous(), weights

    return forward


def gptj_attention(stops, module):
    return lambda q, k, v, mask=None: mix(
        stops, q, k, v, 0 if mask is None else mask, 1 / module.scale_attn
    )


def bloom_ports(stops, module):
    own = module._reshape
    shares = (stops.scores, stops.scores, stops.values)
    return lambda x: tuple(part(one, share) for one, share in zip(own(x), shares, strict=True))


@contextmanager
def corrected(model, stops):
    """The model's gradients are those of the rules; so are what module.forward gives."""
    source = vars(sys.modules[type(model).__module__])
    model.set_attn_implementation("eager")
    with ExitStack() as stack:

        def replace(module, name, by):
            stack.enter_context(patch.object(module, name, by))

        for module in model.modules():
            kind = type(module).__name__
            if kind.endswith("Norm"):
                replace(module, "forward", norm(module))
            elif stops.ratios and any(name in kind for name in _FUNCTIONS):
                replace(module, "forward", ratio(module))
            elif (forward := gated(module, stops.gate)) is not None:
                replace(module, "forward", forward)
            elif kind == "GPTJAttention":
                replace(module, "_attn", gptj_attention(stops, module))
            elif kind == "BloomAttention":
                replace(module, "_reshape", bloom_ports(stops, module))
        if "eager_attention_forward" in source:
            own = {"eager_attention_forward": attention(stops)}
            stack.enter_context(patch.dict(source, own))
        if model.config.model_type == "bloom":
            by = {"softmax": lambda x, dim, dtype: softmax(x, stops.softer)}
            functions = SimpleNamespace(**{**vars(torch.nn.functional), **by})
            stack.enter_context(patch.dict(source, {"F": functions}))
        yield
