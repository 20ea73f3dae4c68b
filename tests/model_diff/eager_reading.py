"""A slow, obvious reading of a model: eager Hugging Face attention, loops over numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import transformers

LAYERS, HEADS = 3, 4


@dataclass
class EagerRun:
    """One document alone. pattern: layer, head, query, key. stream: before and after each block."""

    pattern: torch.Tensor
    stream: list[torch.Tensor]
    neurons: list[torch.Tensor]


def run(folder, tokens) -> EagerRun:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    model = model.double().eval()
    blocks = model.transformer.h if hasattr(model, "transformer") else model.model.layers
    last, neurons, handles = [], [], []
    for block in blocks:
        out = block.mlp.c_proj if hasattr(block.mlp, "c_proj") else block.mlp.down_proj
        handles.append(out.register_forward_pre_hook(lambda _, args: neurons.append(args[0][0])))
    handles.append(
        blocks[-1].register_forward_hook(
            lambda _, __, out: last.append(out[0] if isinstance(out, tuple) else out)
        )
    )
    with torch.no_grad():
        out = model(torch.tensor([tokens]), output_attentions=True, output_hidden_states=True)
    for handle in handles:
        handle.remove()
    # Hugging Face's last hidden state has been through the final norm.
    stream = [state[0] for state in out.hidden_states[:-1]] + [last[0].reshape(len(tokens), -1)]
    return EagerRun(torch.cat(out.attentions), stream, neurons)


def compare(model: EagerRun, base: EagerRun) -> dict[str, torch.Tensor]:
    """Everything that is kept by document."""
    length = model.pattern.shape[2]
    kl, high, high_base = torch.zeros(3, LAYERS, HEADS, dtype=torch.float64)
    names = ("cosine", "activation", "activation_base", "stream_change", "update_change")
    states = {name: torch.zeros(LAYERS, dtype=torch.float64) for name in names}
    for layer in range(LAYERS):
        for head in range(HEADS):
            for query in range(length):
                for key in range(query + 1):
                    p = float(model.pattern[layer, head, query, key])
                    q = float(base.pattern[layer, head, query, key])
                    if p > 0:
                        kl[layer, head] += p * math.log(p / q) / length
                        high[layer, head] -= p * math.log(p) / length
                    if q > 0:
                        high_base[layer, head] -= q * math.log(q) / length
        for at in range(length):
            u, v = model.stream[layer + 1][at], base.stream[layer + 1][at]
            du, dv = u - model.stream[layer][at], v - base.stream[layer][at]
            states["cosine"][layer] += (u @ v) / (u.norm() * v.norm()) / length
            states["activation"][layer] += u.abs().mean() / length
            states["activation_base"][layer] += v.abs().mean() / length
            states["stream_change"][layer] += (u - v).norm() / v.norm() / length
            states["update_change"][layer] += (du - dv).norm() / dv.norm() / length
    return {"kl": kl, "entropy": high, "entropy_base": high_base, **states}


def mass_on(one: EagerRun, queries, keys_of) -> torch.Tensor:
    """Mean over queries of the attention given to `keys_of(query)`: layer, head."""
    mass = torch.zeros(LAYERS, HEADS, dtype=torch.float64)
    for query in queries:
        for key in keys_of(query):
            mass += one.pattern[:, :, query, key] / len(queries)
    return mass
