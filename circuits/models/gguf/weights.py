"""The model of a GGUF file, plain: no quantisation mark, so it can be cast, saved and trained.

transformers' own `gguf_file=` marks the model as quantised for good: `float()`, `to(dtype)` and
`save_pretrained` raise, and the configuration keeps `quantization_config`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from circuits.errors import CircuitsError
from circuits.models.gguf.architectures import Architecture, architecture_of
from circuits.models.gguf.configuration import configuration
from circuits.models.gguf.container import GGUF
from circuits.models.load_errors import LOAD_ERRORS, abbreviated, first_sentence
from circuits.models.whole import LoadingInfo

_OF_ROPE = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_NAME = re.compile(r"(?:blk\.(\d+)\.)?([a-z_]+)\.(weight|bias)")


def load_weights(
    file: GGUF, dtype: torch.dtype, how: Mapping[str, object] = MappingProxyType({})
) -> PreTrainedModel:
    """The model with its weights out of the file's quantisation, on the CPU if `how`, of arguments
    for transformers, names no other place.

    Raises CircuitsError for tensors that the model has no place for, and for those that it lacks.
    """
    architecture = architecture_of(file.path, file.architecture)
    config = configuration(file)
    state = _state(file, architecture, config, dtype)
    kind: type[PreTrainedModel] = getattr(transformers, architecture.model_class)
    load: Callable[..., object] = kind.from_pretrained
    try:
        model_and_info = load(
            None,
            config=config,
            state_dict=state,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            **how,
        )
    except LOAD_ERRORS as error:
        raise CircuitsError(
            f"{file.path}: the file cannot be loaded ({first_sentence(error)})"
        ) from error
    assert isinstance(model_and_info, tuple)
    model: PreTrainedModel = model_and_info[0]
    loaded: LoadingInfo = model_and_info[1]
    for what, names in (
        ("missing", loaded["missing_keys"]),
        ("of another shape", [str(name) for name, *_ in loaded["mismatched_keys"]]),
        ("without a place in it", loaded["unexpected_keys"]),
    ):
        if names:
            raise CircuitsError(
                f"{file.path}: tensors of {architecture.model_class} are {what}: "
                f"{abbreviated(sorted(names))}; the file is incomplete, or of another model"
            )
    model.config.name_or_path = str(file.path.absolute())
    return model


def _state(
    file: GGUF, architecture: Architecture, config: PreTrainedConfig, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Parameters by their names in transformers."""
    state = {}
    foreign = []
    for name in file.tensors:
        match = _NAME.fullmatch(name)
        stem = architecture.names.get(match[2]) if match else None
        if match is None or stem is None or ("{}" in stem) is not (match[1] is not None):
            foreign.append(name)
            continue
        if match[2] == "output" and config.tie_word_embeddings:
            continue
        values = _as_transformers(file.tensor(name), match[2], architecture, config)
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(dtype)
        state[f"{stem.format(match[1])}.{match[3]}"] = tensor
    if unknown := [name for name in foreign if name not in _OF_ROPE]:
        raise CircuitsError(
            f"{file.path}: tensors that {architecture.model_class} has no place for: "
            f"{abbreviated(unknown)}"
        )
    return state


def _as_transformers(
    values: npt.NDArray[np.float32], stem: str, architecture: Architecture, config: PreTrainedConfig
) -> npt.NDArray[np.float32]:
    """A tensor with llama.cpp's changes to it taken back."""
    if architecture.norm_offset and stem.endswith("norm"):
        return values - np.float32(architecture.norm_offset)
    if stem in architecture.transposed and values.ndim == 2:
        return values.T
    if architecture.interleaved and stem in ("attn_q", "attn_k"):
        heads = config.num_key_value_heads if stem == "attn_k" else config.num_attention_heads
        return halved(values, heads)
    if architecture.by_heads and stem == "attn_qkv":
        heads = config.num_attention_heads
        each = values.reshape(3, heads, -1, *values.shape[1:])
        return each.swapaxes(0, 1).reshape(values.shape)
    return values


def halved(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows [heads * d_head, ...]: a head's with the first of each pair of neighbours in front.

    GGML turns dimensions 2i and 2i + 1 together, transformers i and i + d_head / 2.
    """
    pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)
