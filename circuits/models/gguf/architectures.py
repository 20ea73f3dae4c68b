"""The architectures that are read from GGUF: which Hugging Face model each is, by what names.

llama.cpp's converter (convert_hf_to_gguf.py) renames tensors and changes some: here the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from circuits.errors import UnsupportedError

_DECODER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "model.layers.{}.input_layernorm",
    "attn_q": "model.layers.{}.self_attn.q_proj",
    "attn_k": "model.layers.{}.self_attn.k_proj",
    "attn_v": "model.layers.{}.self_attn.v_proj",
    "attn_output": "model.layers.{}.self_attn.o_proj",
    "ffn_norm": "model.layers.{}.post_attention_layernorm",
    "ffn_gate": "model.layers.{}.mlp.gate_proj",
    "ffn_up": "model.layers.{}.mlp.up_proj",
    "ffn_down": "model.layers.{}.mlp.down_proj",
}
_NORMED_HEADS = {
    "attn_q_norm": "model.layers.{}.self_attn.q_norm",
    "attn_k_norm": "model.layers.{}.self_attn.k_norm",
}
_NORMS_BEHIND = {
    "post_attention_norm": "model.layers.{}.post_attention_layernorm",
    "post_ffw_norm": "model.layers.{}.post_feedforward_layernorm",
}
_GEMMA2 = {**_DECODER, **_NORMS_BEHIND, "ffn_norm": "model.layers.{}.pre_feedforward_layernorm"}
_FUSED = {
    "attn_qkv": "model.layers.{}.self_attn.qkv_proj",
    "ffn_up": "model.layers.{}.mlp.gate_up_proj",
}
_GPT2 = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "attn_norm": "transformer.h.{}.ln_1",
    "attn_qkv": "transformer.h.{}.attn.c_attn",
    "attn_output": "transformer.h.{}.attn.c_proj",
    "ffn_norm": "transformer.h.{}.ln_2",
    "ffn_up": "transformer.h.{}.mlp.c_fc",
    "ffn_down": "transformer.h.{}.mlp.c_proj",
}
_NEOX = {
    "token_embd": "gpt_neox.embed_in",
    "output_norm": "gpt_neox.final_layer_norm",
    "output": "embed_out",
    "attn_norm": "gpt_neox.layers.{}.input_layernorm",
    "attn_qkv": "gpt_neox.layers.{}.attention.query_key_value",
    "attn_output": "gpt_neox.layers.{}.attention.dense",
    "ffn_norm": "gpt_neox.layers.{}.post_attention_layernorm",
    "ffn_up": "gpt_neox.layers.{}.mlp.dense_h_to_4h",
    "ffn_down": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
}


@dataclass(frozen=True)
class Architecture:
    """A GGUF architecture.

    name: of the classes in transformers, without Config and ForCausalLM.
    names: stems of tensors in the file -> of parameters; {} is the layer.
    interleaved: q and k turn neighbouring pairs in GGML, halves in transformers.
    norm_offset: what the converter added to the weights of norms.
    transposed: stems whose matrices transformers keeps the other way round (Conv1D).
    by_heads: q, k and v of the fused projection lie head by head in transformers.
    """

    name: str
    names: Mapping[str, str] = field(default_factory=lambda: _DECODER)
    interleaved: bool = False
    norm_offset: float = 0.0
    transposed: frozenset[str] = frozenset()
    by_heads: bool = False
    suffix: str = "ForCausalLM"
    config: str = ""

    @property
    def config_class(self) -> str:
        """Of its configuration."""
        return self.config or f"{self.name}Config"

    @property
    def model_class(self) -> str:
        """Of its model."""
        return self.name + self.suffix


ARCHITECTURES = {
    "llama": Architecture("Llama", interleaved=True),
    "qwen2": Architecture("Qwen2"),
    "qwen3": Architecture("Qwen3", {**_DECODER, **_NORMED_HEADS}),
    "gemma": Architecture("Gemma", norm_offset=1.0),
    "gemma2": Architecture("Gemma2", _GEMMA2, norm_offset=1.0),
    "gemma3": Architecture(
        "Gemma3", {**_GEMMA2, **_NORMED_HEADS}, norm_offset=1.0, config="Gemma3TextConfig"
    ),
    "phi3": Architecture("Phi3", {**_DECODER, **_FUSED}),
    "olmo2": Architecture("Olmo2", {**_DECODER, **_NORMED_HEADS, **_NORMS_BEHIND}),
    "gpt2": Architecture(
        "GPT2",
        _GPT2,
        transposed=frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"}),
        suffix="LMHeadModel",
    ),
    "gptneox": Architecture("GPTNeoX", _NEOX, by_heads=True),
}
"""By `general.architecture`."""


def architecture_of(path: object, name: str) -> Architecture:
    """The architecture of a file; any other is refused by its name."""
    if name not in ARCHITECTURES:
        raise UnsupportedError(
            f"{path}: GGUF of architecture {name!r} is not read; known: {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]
