"""TransformerLens's bridge of a model that is loaded, and the proof that it computes the same.

The bridge rebuilds what it is given, so it gets a twin: the same architecture over the same
tensors, tied where the loaded model ties them and nowhere else. Nothing is downloaded or installed
on the way: TransformerLens's own loader would run pip for a model that sees and ask the hub for a
tokenizer. Image processors are therefore not part of it.
"""

from __future__ import annotations

import copy
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from circuits.errors import UnsupportedError
from circuits.models.load_errors import first_sentence
from circuits.models.plain import quantisation
from circuits.runtime.oom import out_of_memory

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_LENGTH = 6
_UNREAD = {"scale_attn_weights": False}
"""Settings (of GPT-2) that the bridge's attention does not heed, and the values that count."""


def bridge_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, name: str
) -> TransformerBridge:
    """A bridge on a twin of the model that shares its weights.

    Raises CircuitsError where TransformerLens cannot make one, with what is missing, and where the
    bridge computes other logits than the model.
    """
    if kind := quantisation(model):
        raise UnsupportedError(
            f"{name}: TransformerLens's bridge shares a model's plain weights, and these are "
            f"quantised ({kind}); load it unquantised for its bridge"
        )
    if getattr(model, "hf_device_map", None) is not None:
        raise UnsupportedError(
            f"{name}: TransformerLens's bridge needs a model on one device, and this one is "
            "spread by a device map"
        )
    try:
        bridge = _made(model, tokenizer, name)
    except ImportError as error:
        raise UnsupportedError(
            f"{name}: TransformerLens's bridge of {type(model).__name__} needs a package that is "
            f"not installed ({first_sentence(error)}); nothing is installed by itself, and all but "
            "the bridge works without"
        ) from error
    except Exception as error:
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise
        raise UnsupportedError(
            f"{name}: TransformerLens can make no bridge of {type(model).__name__} "
            f"({type(error).__name__}: {first_sentence(error)})"
        ) from error
    _require_equal(bridge, model, name)
    return bridge


def _made(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, name: str
) -> TransformerBridge:
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    with TemporaryDirectory() as folder:
        bridge: TransformerBridge = build_bridge_from_module(
            _twin(model),
            type(model).__name__,
            hf_config=model.config,
            tokenizer=_saved(tokenizer, folder),
            dtype=model.dtype,
            device=model.device,
            model_name=name,
        )
    if tokenizer is not None:
        bridge.tokenizer.name_or_path = name  # not the folder, which is gone
        bridge.tokenizer.init_kwargs["name_or_path"] = name
    return bridge


def _saved(
    tokenizer: PreTrainedTokenizerBase | None, folder: str
) -> PreTrainedTokenizerBase | None:
    """A copy from a folder, where TransformerLens 4.3 loads it again to have the begin token added:
    the one at hand may be from a GGUF file or made in memory, or not be as it stands at its place.
    """
    if tokenizer is None:
        return None
    tokenizer.save_pretrained(folder)
    copied: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return copied


def _twin(model: PreTrainedModel) -> PreTrainedModel:
    """The same architecture over the same tensors."""
    with torch.device("meta"):
        twin: PreTrainedModel = type(model)(copy.deepcopy(model.config))
    ours: dict[int, nn.Parameter] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        shared = ours.setdefault(
            id(parameter), nn.Parameter(parameter.detach(), requires_grad=False)
        )
        owner, _, leaf = path.rpartition(".")
        twin.get_submodule(owner).register_parameter(leaf, shared)
    for path, buffer in model.named_buffers(remove_duplicate=False):
        owner, _, leaf = path.rpartition(".")
        twin.get_submodule(owner).register_buffer(leaf, buffer, persistent=False)
    twin.set_attn_implementation("eager")
    twin.train(False)
    return twin


def _require_equal(bridge: TransformerBridge, model: PreTrainedModel, name: str) -> None:
    embedded = model.get_input_embeddings().weight
    assert isinstance(embedded, Tensor)
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(embedded.shape[0], (2, _LENGTH), generator=draw).to(model.device)
    with torch.no_grad():
        expected = _logits(model, tokens, model)
        bridge_logits = _logits(bridge, tokens, model)
    error = float((bridge_logits - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    tolerance = 1e-3 if model.dtype == torch.float32 else 5e-2
    if not error <= tolerance:
        unread = [
            f"{key}={value}"
            for key, value in _UNREAD.items()
            if getattr(model.config, key, None) == value
        ]
        why = f"; it does not heed {' and '.join(unread)}" if unread else ""
        raise UnsupportedError(
            f"{name}: TransformerLens's bridge computes other logits than the model, off by "
            f"{error:.1e} of the largest{why}; scores, patching and diffs use the model itself"
        )


def _logits(
    run: PreTrainedModel | TransformerBridge, tokens: Int[Tensor, "batch pos"], of: PreTrainedModel
) -> Float[Tensor, "batch pos vocabulary"]:
    decoder_inputs = {"decoder_input": tokens} if of.config.is_encoder_decoder else {}
    if isinstance(run, PreTrainedModel):
        decoder_inputs = {"decoder_input_ids": tokens} if decoder_inputs else {}
        output: Tensor = run(input_ids=tokens, use_cache=False, **decoder_inputs).logits
    else:
        output = run(tokens, **decoder_inputs)
    return output.float()
