"""The configuration of a GGUF file's model, from its header.

Every key of the architecture is accounted for: one that is not known, and is neither 0 nor false,
may change what the model computes, and is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import transformers
from transformers import PreTrainedConfig

from circuits.errors import CircuitsError
from circuits.models.gguf.architectures import architecture_of
from circuits.models.gguf.container import GGUF
from circuits.models.gguf.rope import rope_parameters
from circuits.models.load_errors import LOAD_ERRORS, first_sentence

_FIELDS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "use_parallel_residual": "use_parallel_residual",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_LAYER_NORMED, _CAPPED = ("gpt2", "gptneox"), ("gemma2", "gemma3")
_OWN = {
    "attention.layer_norm_epsilon": _LAYER_NORMED,
    "use_parallel_residual": ("gptneox",),
    "attention.sliding_window": (*_CAPPED, "phi3"),
    "attention.sliding_window_pattern": ("gemma3",),
    "attn_logit_softcapping": ("gemma2",),
    "final_logit_softcapping": _CAPPED,
}
"""Keys that only these architectures have; elsewhere transformers would not look at them."""
_REQUIRED = ("context_length", "embedding_length", "block_count", "attention.head_count")
_READ_ELSEWHERE = frozenset(
    {
        "attention.key_length",
        "attention.value_length",
        "attention.sliding_window_pattern",
        "vocab_size",  # the embedding has the rows that it has
        "attention.causal",
        "tensor_data_layout",
    }
)
_GEMMA_27B = {"gemma2": 46, "gemma3": 62}
"""Layers of the sizes whose attention is scaled by d_model / heads, not by the head's width
(llama.cpp, src/models/gemma2.cpp and gemma3.cpp; the file does not say)."""


def configuration(file: GGUF) -> PreTrainedConfig:
    """The Hugging Face configuration of the model in a file; no tensor is read.

    Raises CircuitsError for an architecture or a setting that is not read, by name.
    """
    architecture = architecture_of(file.path, file.architecture)
    norm = "layer_norm" if file.architecture in _LAYER_NORMED else "layer_norm_rms"
    for key in (*_REQUIRED, f"attention.{norm}_epsilon"):
        if file.get(key) is None:
            raise CircuitsError(f"{file.path}: {file.architecture}.{key} is missing")
    _refuse_unknown(file)
    settings = {
        name: _value(file, key) for key, name in _FIELDS.items() if file.get(key) is not None
    }
    settings.update(_special_ids(file))
    settings.update(
        vocab_size=_rows(file, "token_embd.weight"),  # or says that it is missing
        tie_word_embeddings=_tied(file),
    )
    kind = getattr(transformers, architecture.config_class)
    try:
        settings.update(_of_architecture(file, settings))
        config: PreTrainedConfig = kind(**settings)
    except LOAD_ERRORS as error:
        raise CircuitsError(
            f"{file.path}: {architecture.config_class} refuses what the file says "
            f"({first_sentence(error)})"
        ) from error
    config.architectures = [architecture.model_class]
    config.name_or_path = str(file.path.absolute())
    return config


def _tied(file: GGUF) -> bool:
    """Whether the unembedding is the embedding: not stored, or stored twice with the same bytes."""
    if "output.weight" not in file.tensors:
        return True
    ends = [file.tensors[f"{name}.weight"] for name in ("token_embd", "output")]
    if len({(entry.kind, entry.shape) for entry in ends}) > 1:
        return False
    embedding, unembedding = (
        np.memmap(file.path, np.uint8, "r", entry.start, (entry.size,)) for entry in ends
    )
    return bool(np.array_equal(embedding, unembedding))


def _value(file: GGUF, key: str) -> object:
    """A value; one that is given for each layer must be the same for all."""
    value = file.get(key)
    if isinstance(value, list):
        if len(set(value)) != 1:
            raise CircuitsError(
                f"{file.path}: {file.architecture}.{key} differs between layers, which is not read"
            )
        value = value[0]
    # the file keeps 32 bits of 1e-05
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _rows(file: GGUF, name: str) -> int:
    entry = file.tensors.get(name)
    if entry is None:
        raise CircuitsError(f"{file.path}: tensor {name} is missing; is it a whole model?")
    return entry.shape[0]


def _refuse_unknown(file: GGUF) -> None:
    prefix = f"{file.architecture}."
    for key, value in file.metadata.items():
        name = key.removeprefix(prefix)
        is_known = name in _FIELDS or name in _READ_ELSEWHERE or _of_rope(file, name)
        is_known = is_known and file.architecture in _OWN.get(name, (file.architecture,))
        if key.startswith(prefix) and not is_known and value not in (0, "", "none"):
            raise CircuitsError(
                f"{file.path}: {key} = {value!r} is not known here, and may change what the model "
                "computes"
            )
    if file.get("attention.causal", True) is not True:
        raise CircuitsError(f"{file.path}: its attention is not causal; it is no language model")


def _of_rope(file: GGUF, name: str) -> bool:
    """Keys that `rope_parameters` accounts for; GPT-2 has positions of its own."""
    return name.startswith("rope.") and file.architecture != "gpt2"


def _special_ids(file: GGUF) -> dict[str, object]:
    """The tokens that begin, end and fill a text; None for what the file does not name, since a
    class in transformers has ids of its own for it.
    """
    keys = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    return {name: file.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in keys.items()}


def _of_architecture(file: GGUF, settings: dict[str, object]) -> dict[str, object]:
    """What architectures have to themselves. Changes `settings` where names differ."""
    kind = file.architecture
    own_settings: dict[str, object] = {}
    for key, kinds in _OWN.items():  # told as 0 or none elsewhere
        if kind not in kinds and key in _FIELDS:
            settings.pop(_FIELDS[key], None)
    if kind == "gpt2":
        own_settings["layer_norm_epsilon"] = settings.pop("layer_norm_eps")
        own_settings["n_inner"] = settings.pop("intermediate_size", None)
        _refuse_grouped(file, settings)
        return own_settings
    heads = _whole(file, settings, "num_attention_heads")
    own_settings["head_dim"] = head = _head_dim(file, heads)
    if kind == "gptneox":
        _refuse_grouped(file, settings)
        del own_settings["head_dim"]
        own_settings["attention_bias"] = "blk.0.attn_qkv.bias" in file.tensors
    else:
        settings.setdefault("num_key_value_heads", heads)
    if kind in ("llama", "qwen3"):
        own_settings["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    if kind == "llama":
        own_settings["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors
    if kind in _CAPPED:
        is_27b = settings["num_hidden_layers"] == _GEMMA_27B[kind]
        own_settings["query_pre_attn_scalar"] = (
            _whole(file, settings, "hidden_size") // heads if is_27b else head
        )
    own_settings["rope_parameters"] = rope_parameters(file, head)
    if kind == "phi3" and (original := file.get("rope.scaling.original_context_length")):
        own_settings["original_max_position_embeddings"] = original
    if kind == "gemma3":
        own_settings["layer_types"] = _layer_types(
            file, _whole(file, settings, "num_hidden_layers")
        )
    return own_settings


def _whole(file: GGUF, settings: Mapping[str, object], name: str) -> int:
    value = settings[name]
    if not isinstance(value, int):
        raise CircuitsError(f"{file.path}: its {name} is {value!r}, not a whole number")
    return value


def _layer_types(file: GGUF, layers: int) -> list[str]:
    """Which layers see a window only: told for each, or all but every sixth (or another number)."""
    pattern = file.get("attention.sliding_window_pattern", 6)
    if isinstance(pattern, int):
        windowed = [not pattern or (layer + 1) % pattern > 0 for layer in range(layers)]
    else:
        windowed = pattern if isinstance(pattern, list) else []
    if len(windowed) != layers:
        raise CircuitsError(
            f"{file.path}: {file.architecture}.attention.sliding_window_pattern has "
            f"{len(windowed)} entries for {layers} layers"
        )
    return ["sliding_attention" if is_windowed else "full_attention" for is_windowed in windowed]


def _head_dim(file: GGUF, heads: int) -> int:
    head = file.whole("attention.key_length", 0) or file.whole("embedding_length") // heads
    value = file.get("attention.value_length", head)
    if value != head:
        raise CircuitsError(
            f"{file.path}: heads whose keys and values differ in width ({head} and {value}) are "
            "not read"
        )
    return head


def _refuse_grouped(file: GGUF, settings: dict[str, object]) -> None:
    if settings.pop("num_key_value_heads", None) not in (None, settings["num_attention_heads"]):
        raise CircuitsError(f"{file.path}: grouped KV heads in a file of {file.architecture}")
