"""A Hugging Face model seen as a residual-stream graph.

TransformerLens's architecture adapter names the module behind each canonical component
(`blocks.attn.q`, `ln1`, ...). This file resolves those names on the plain model, so that hooks sit
on its own modules and attention runs as the model runs it (SDPA), and describes what the maths
needs of each: norms, q/k/v projections, output weights.

Scope: decoder-only models with a norm before attention and one before the MLP, sequential or
parallel. What does not fit is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.model_bridge.sources import build_bridge_config_from_hf
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from circuits.errors import CircuitsError
from circuits.graph.layout import Layout, Port

# Models whose fused projection holds all of q, then all of k, then all of v.
_CONCATENATED = ("gpt2", "phi3")

_KINDS: tuple[Literal["layer", "rms"], ...] = ("layer", "rms")


@dataclass(frozen=True)
class Norm:
    """y = weight * xhat + bias, with xhat = (x - mean) / sigma (LayerNorm) or x / sigma (RMSNorm).

    weight: the effective one (Gemma's 1 + w).
    """

    module: nn.Module
    kind: Literal["layer", "rms"]
    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"] | None
    eps: float

    @classmethod
    def of(cls, module: nn.Module) -> Norm:
        """Describe a norm module, and check the description on random input."""
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        eps = getattr(module, "eps", getattr(module, "variance_epsilon", None))
        if weight is None or eps is None:
            raise CircuitsError(f"{type(module).__name__}: a norm without weight or epsilon")
        probe = torch.linspace(-1.0, 3.0, 4 * weight.numel(), device=weight.device)
        probe = (probe.sin() * 2 + 0.5).view(4, -1).to(weight.dtype)
        with torch.no_grad():
            expected = module(probe).float()
            for kind in _KINDS:
                for effective in (weight, 1 + weight):
                    norm = cls(module, kind, effective.detach(), bias, float(eps))
                    if torch.allclose(norm._formula(probe), expected, atol=1e-4, rtol=1e-2):
                        return norm
        raise CircuitsError(f"{type(module).__name__}: neither a LayerNorm nor an RMSNorm")

    def normalise(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> tuple[Float[Tensor, "*batch d_model"], Float[Tensor, "*batch 1"]]:
        """xhat and sigma, in float32."""
        x = x.float()
        if self.kind == "layer":
            x = x - x.mean(dim=-1, keepdim=True)
        sigma = (x.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()
        return x / sigma, sigma

    def _formula(self, x: Tensor) -> Tensor:
        y = self.normalise(x)[0] * self.weight.float()
        return y if self.bias is None else y + self.bias.float()


@dataclass(frozen=True)
class Projection:
    """One of a layer's q, k, v: some output features of a module, `n_heads` x `d_head` of them."""

    port: Port
    module: nn.Module
    features: slice
    n_heads: int

    @property
    def weight(self) -> Float[Tensor, "head d_model d_head"]:
        """The projection's matrix, one slice a (KV) head; a view of the model's own."""
        matrix = _input_major(self.module)[:, self.features]
        return matrix.view(matrix.shape[0], self.n_heads, -1).transpose(0, 1)

    @property
    def bias(self) -> Float[Tensor, "head d_head"] | None:
        """The projection's bias, if any."""
        bias = self.module.bias
        if not isinstance(bias, Tensor):
            return None
        return bias[self.features].view(self.n_heads, -1)


@dataclass(frozen=True)
class Layer:
    """One decoder layer."""

    block: nn.Module
    attention_norm: Norm
    projections: tuple[Projection, Projection, Projection]
    output: nn.Module
    n_heads: int
    mlp_norm: Norm
    mlp: nn.Module

    @property
    def output_weight(self) -> Float[Tensor, "head d_head d_model"]:
        """The attention output matrix, one slice a head; a view of the model's own."""
        matrix = _input_major(self.output)
        return matrix.view(self.n_heads, -1, matrix.shape[1])

    @property
    def modules(self) -> dict[nn.Module, list[Projection]]:
        """The projections by the module they come from: one if fused, else three."""
        groups: dict[nn.Module, list[Projection]] = {}
        for projection in self.projections:
            groups.setdefault(projection.module, []).append(projection)
        return groups


@dataclass(frozen=True)
class View:
    """The whole model: its layers, the final norm, and the graph's layout."""

    layers: tuple[Layer, ...]
    final_norm: nn.Module
    layout: Layout
    d_model: int
    d_head: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> View:
        """Describe a model; a `CircuitsError` says what does not fit."""
        architecture = type(model).__name__
        try:
            config = build_bridge_config_from_hf(
                model.config, architecture, str(model.name_or_path), model.dtype
            )
            adapter = ArchitectureAdapterFactory.select_architecture_adapter(config)
        except (ValueError, AttributeError) as error:
            raise CircuitsError(
                f"{architecture}: TransformerLens has no adapter for this architecture ({error})"
            ) from error
        mapping: Mapping[str, Any] = adapter.component_mapping or {}
        if "blocks" not in mapping or "ln_final" not in mapping:
            raise CircuitsError(f"{architecture}: only decoder-only models are supported")
        parts = mapping["blocks"].submodules
        _check_structure(architecture, parts)
        heads = int(config.n_heads)
        kv_heads = int(config.n_key_value_heads or heads)
        d_head = int(config.d_head)
        layers = tuple(
            _layer(block, parts, heads, kv_heads, d_head, model)
            for block in model.get_submodule(mapping["blocks"].name).children()
        )
        layout = Layout(len(layers), heads, kv_heads, bool(config.parallel_attn_mlp))
        final_norm = model.get_submodule(mapping["ln_final"].name)
        return cls(layers, final_norm, layout, int(config.d_model), d_head)


def _check_structure(architecture: str, parts: Mapping[str, Any]) -> None:
    if "attn" not in parts or "mlp" not in parts:
        raise CircuitsError(f"{architecture}: its layers are not attention plus MLP")
    if not parts["mlp"].name:
        raise CircuitsError(f"{architecture}: its MLPs are not modules of their own; not yet done")
    if "MoE" in type(parts["mlp"]).__name__:
        raise CircuitsError(f"{architecture}: mixture-of-experts layers are not supported yet")
    if "ln1" not in parts or "ln2" not in parts:
        raise CircuitsError(
            f"{architecture}: only layers with one norm before attention and one before the MLP "
            "are supported yet"
        )
    if "ln1_post" in parts or "ln2_post" in parts:
        raise CircuitsError(
            f"{architecture}: norms after attention or MLP are not supported yet (the contribution "
            "of a head is then scaled by the norm of the sum)"
        )


def _layer(
    block: nn.Module,
    parts: Mapping[str, Any],
    heads: int,
    kv_heads: int,
    d_head: int,
    model: PreTrainedModel,
) -> Layer:
    attention = block.get_submodule(parts["attn"].name)
    names = parts["attn"].submodules
    sizes = {"q": heads * d_head, "k": kv_heads * d_head, "v": kv_heads * d_head}
    projections, start = [], 0
    fused = "qkv" in names
    if fused and model.config.model_type not in _CONCATENATED:
        raise CircuitsError(
            f"{type(model).__name__}: the order of q, k and v in its fused projection is not known"
        )
    for port in ("q", "k", "v"):
        module = attention.get_submodule(names["qkv" if fused else port].name)
        features = slice(start, start + sizes[port]) if fused else slice(0, sizes[port])
        start += sizes[port]
        projections.append(Projection(port, module, features, heads if port == "q" else kv_heads))
    q, k, v = projections
    return Layer(
        block=block,
        attention_norm=Norm.of(block.get_submodule(parts["ln1"].name)),
        projections=(q, k, v),
        output=attention.get_submodule(names["o"].name),
        n_heads=heads,
        mlp_norm=Norm.of(block.get_submodule(parts["ln2"].name)),
        mlp=block.get_submodule(parts["mlp"].name),
    )


def _input_major(module: nn.Module) -> Float[Tensor, "input output"]:
    """A linear module's matrix as (input, output), whichever way it is stored."""
    weight = module.weight
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise CircuitsError(f"{type(module).__name__}: not a linear projection")
    return weight.detach() if isinstance(module, Conv1D) else weight.detach().T
