"""What decides how a training ends, as plain values: a folder begun with others is refused.

    settings            each under its name, but for those that change nothing
    examples, validation, tokenizer
                        SHA-256 over token ids in their order, and over the vocabulary
    model               SHA-256 over what a checkpoint holds, and which parameters are trained
    config, dropouts    what weights do not show: the model's configuration, its rates of dropout
    adapter             PEFT's configuration, with the scale
    ranks, heads        of a LoRA: the rank of each map, and the heads that train where not all do

Where the folder is, how often states are saved, and the names of models are no part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from circuits.options.tuning import FinetuneSettings
from circuits.tuning.heads import trained_heads
from circuits.tuning.targets import adapter_ranks
from circuits.tuning.tuned_model import TunedModel
from tasks.pairs import TrainingExample

_NO_MATTER = {"save_state_every", "log_to"}
"""Settings that do not change what a run ends with."""
_OF_THE_FILE = {"transformers_version", "peft_version", "architectures", "auto_mapping"}
_OF_THE_PLACE = {"name_or_path", "base_model_name_or_path", "revision", "inference_mode"}
_PUT_BACK = {"use_cache", "dtype", "torch_dtype"}  # training sets them; weights say their dtype
_NO_PART = _OF_THE_FILE | _OF_THE_PLACE | _PUT_BACK


def settings_identity(settings: FinetuneSettings) -> dict[str, object]:
    """Every number that the run depends on."""
    return {name: value for name, value in asdict(settings).items() if name not in _NO_MATTER}


def data_identity(
    examples: Sequence[TrainingExample], validation: Sequence[TrainingExample] | None
) -> dict[str, object]:
    """What is learnt from, and what the loss is measured on."""
    return {
        "examples": fingerprint_examples(examples),
        "validation": fingerprint_examples(validation),
    }


def model_identity(model: TunedModel) -> dict[str, object]:
    """The model as training finds it, with its adapter."""
    adapters = dict(model.peft_config) if isinstance(model, PeftModel) else {}
    return {
        "model": fingerprint_model(model),
        "config": dict(_leaves(model.config.to_dict())),
        "dropouts": {
            name: module.p
            for name, module in model.named_modules()
            if isinstance(module, nn.modules.dropout._DropoutNd) and module.p
        },
        "adapter": dict(_leaves({name: made.to_dict() for name, made in adapters.items()})),
        **adapter_identity(adapter_ranks(model), trained_heads(model)),
    }


def adapter_identity(
    ranks: Mapping[str, int], heads: Mapping[str, Sequence[str]]
) -> dict[str, object]:
    """What a LoRA trains: the rank of each map; of maps that train in part, the heads' nodes."""
    return {"ranks": dict(ranks), "heads": {name: list(nodes) for name, nodes in heads.items()}}


def fingerprint_examples(examples: Sequence[TrainingExample] | None) -> str | None:
    """SHA-256 over all ids: equal data in equal order, equal fingerprints."""
    if examples is None:
        return None
    digest = hashlib.sha256()
    for example in examples:  # one at a time: they may be more than memory holds
        digest.update(json.dumps((example.prompt, example.target)).encode())
    return digest.hexdigest()


def fingerprint_tokenizer(tokenizer: PreTrainedTokenizerBase | None) -> str | None:
    """SHA-256 over the vocabulary and the special tokens: what ids are turned into text by."""
    if tokenizer is None:
        return None
    words = sorted(tokenizer.get_vocab().items())
    content = json.dumps([words, tokenizer.special_tokens_map], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def fingerprint_model(model: nn.Module) -> str:
    """SHA-256 over names, shapes, types and values of all parameters and saved buffers, and which
    are trained.
    """
    digest = hashlib.sha256()
    for name, tensor in _saved(model):
        about = (name, list(tensor.shape), str(tensor.dtype), tensor.requires_grad)
        digest.update(json.dumps(about).encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _saved(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, then the buffers that a checkpoint holds: others follow from the configuration,
    and some models change them while they run.
    """
    yield from model.named_parameters()
    for place, module in model.named_modules():
        for name, buffer in module.named_buffers(place, recurse=False):
            if name.rpartition(".")[2] not in module._non_persistent_buffers_set:
                yield name, buffer


def _leaves(value: Mapping[str, object], place: str = "") -> Iterator[tuple[str, object]]:
    """What a configuration says, by dotted names."""
    for key, inner in value.items():
        name = f"{place}.{key}" if place else key
        if isinstance(inner, Mapping) and inner:
            yield from _leaves({str(part): held for part, held in inner.items()}, name)
        elif key not in _NO_PART and not key.startswith("_"):
            yield name, _plain(inner)


def _plain(value: object) -> object:
    """As JSON says it: sets in order, and what JSON does not know by its name."""
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return json.loads(json.dumps(value, default=str))
