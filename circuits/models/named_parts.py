"""Which module of a Hugging Face model stands behind each canonical component.

TransformerLens's architecture adapter names them (`blocks.attn.q`, `ln1`, ...). Those names are
resolved on the plain model, so that hooks sit on its own modules and attention runs as the model
runs it (SDPA). Models of which this cannot be enough are refused with the reason.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import nn
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent
from transformer_lens.model_bridge.sources import build_bridge_config_from_hf
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PreTrainedConfig, PreTrainedModel

from circuits.errors import UnsupportedError
from circuits.models.language import tower

# Models that see whose adapter asks for packages that read images: the adapter of their text alone.
_TEXT_ALONE = {
    "qwen2_vl_text": "Qwen2ForCausalLM",
    "qwen2_5_vl_text": "Qwen2ForCausalLM",
    "qwen3_vl_text": "Qwen3ForCausalLM",
}

Parts = Mapping[str, GeneralizedComponent]
"""What TransformerLens names in a model or in one of its parts."""


def named_parts(
    model: PreTrainedModel,
) -> tuple[TransformerBridgeConfig, Parts]:
    """TransformerLens's configuration of a model, and what it names; no weight is looked at.

    A `CircuitsError` says what is not supported.
    """
    architecture = type(model).__name__
    text = model.config.get_text_config()
    try:
        if text.model_type in _TEXT_ALONE:
            config, mapping = _adapter(model, text, _TEXT_ALONE[text.model_type])
            for name, component in mapping.items():
                if name != "unembed":
                    component.name = (
                        f"{tower(model)}.{(component.name or '').removeprefix('model.')}"
                    )
        else:
            config, mapping = _adapter(model, model.config, architecture)
    except (ValueError, AttributeError) as error:
        raise UnsupportedError(
            f"{architecture}: TransformerLens has no adapter for this architecture ({error})"
        ) from error
    _refuse(model, mapping)
    return config, mapping


def module_of(owner: nn.Module, part: GeneralizedComponent) -> nn.Module:
    """The module that stands behind a part; the owner itself where the part has none."""
    return owner.get_submodule(part.name or "")


def _adapter(
    model: PreTrainedModel, config: PreTrainedConfig, architecture: str
) -> tuple[TransformerBridgeConfig, Parts]:
    config = _even(config)
    bridge_config = build_bridge_config_from_hf(
        config, architecture, str(model.name_or_path), model.dtype
    )
    adapter = ArchitectureAdapterFactory.select_architecture_adapter(bridge_config)
    return bridge_config, adapter.component_mapping or {}


def _even(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy whose encoder has the decoder's sizes: the names are the same, and TransformerLens's
    BART takes no other. Depth is then read from the model; heads are looked at by `_refuse`.
    """
    sides = [f"{{}}_{size}" for size in ("layers", "ffn_dim", "attention_heads")]
    uneven = {
        side.format("encoder"): getattr(config, side.format("decoder"))
        for side in sides
        if hasattr(config, side.format("encoder")) and hasattr(config, side.format("decoder"))
    }
    if all(getattr(config, name) == size for name, size in uneven.items()):
        return config
    copied = copy.deepcopy(config)
    for name, size in uneven.items():
        setattr(copied, name, size)
    return copied


def _refuse(model: PreTrainedModel, mapping: Parts) -> None:
    architecture, config = type(model).__name__, model.config.get_text_config()
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not config.is_encoder_decoder:
        raise UnsupportedError(
            f"{architecture}: a model that fills in masked words ({config.model_type}) is not "
            "supported, nor are its norms behind the layers; language models that read from left "
            "to right are"
        )
    blocks = [mapping[key] for key in mapping if key.endswith("blocks")]
    if not blocks or "unembed" not in mapping:
        raise UnsupportedError(
            f"{architecture}: only language models of stacked layers are supported"
        )
    for block in blocks:
        parts = block.submodules
        if not ({"attn", "self_attn"} & set(parts)) or "mlp" not in parts:
            raise UnsupportedError(
                f"{architecture}: its layers are not attention plus MLP (state-space layers are "
                "not supported)"
            )
        if "MoE" in type(parts["mlp"]).__name__:
            raise UnsupportedError(
                f"{architecture}: mixture-of-experts layers are not supported: which expert runs "
                "jumps with the input, and no gradient says by how much"
            )
    if getattr(config, "do_layer_norm_before", True) is False:
        raise UnsupportedError(f"{architecture}: OPT with norms after its layers is not supported")
    if getattr(config, "apply_residual_connection_post_layernorm", False):
        raise UnsupportedError(
            f"{architecture}: a residual connection that starts behind the norm is not supported"
        )
    for name in ("residual_multiplier", "scale_depth"):
        if getattr(config, name, 1.0) not in (None, 1.0):
            raise UnsupportedError(f"{architecture}: a scaled residual ({name}) is not supported")
    sizes = {
        getattr(config, name, None)
        for name in ("encoder_attention_heads", "decoder_attention_heads")
    }
    if len(sizes) > 1 and None not in sizes:
        raise UnsupportedError(
            f"{architecture}: encoder and decoder differ in their number of heads "
            f"({config.encoder_attention_heads} and {config.decoder_attention_heads})"
        )
