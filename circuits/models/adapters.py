"""PEFT adapters: which base one was trained on, and merging it into that."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from circuits.errors import CircuitsError
from circuits.files import read_json
from circuits.models.failures import UNLOADABLE, first_sentence, some


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without PEFT 0.21's warning of an attribute that transformers renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        yield


def recorded_base(folder: Path) -> str:
    """The base model that an adapter's folder names: a folder, or a hub id with its revision."""
    record = read_json(folder / "adapter_config.json")
    base, revision = (record.get(key) for key in ("base_model_name_or_path", "revision"))
    if not base:
        raise CircuitsError(f"{folder}: the adapter does not name its base model; give one")
    if not revision or "@" in base or Path(base).expanduser().is_dir():
        return str(base)
    return f"{base}@{revision}"


def merge(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base with the adapter's weights added to its own; `model` itself is changed.

    Embeddings that were one matrix become two where the adapter changes either by itself.
    Raises CircuitsError where the adapter cannot be read, and where weights of it are missing: PEFT
    would take fresh ones, which change nothing.
    """
    from peft import PeftModel

    _require_mergeable(folder)
    try:
        with quiet_peft():
            warnings.filterwarnings("error", "Found missing adapter keys")
            warnings.filterwarnings("ignore", ".*(`tie_word_embeddings|no longer tied)")  # _untie
            adapted = PeftModel.from_pretrained(model, str(folder))
            _untie(model)
            merged: PreTrainedModel = adapted.merge_and_unload()
    except UserWarning as error:
        missing = re.findall(r"'(.+?)'", str(error))
        raise CircuitsError(
            f"{folder}: weights of the adapter are missing: {some(missing)}; it is incomplete, or "
            "of another model"
        ) from error
    except UNLOADABLE as error:
        raise CircuitsError(
            f"{folder}: the adapter cannot be loaded ({first_sentence(error)})"
        ) from error
    return merged.requires_grad_(True)  # PEFT froze the base; as any model that is loaded


def _require_mergeable(folder: Path) -> None:
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    kind = read_json(folder / "adapter_config.json").get("peft_type")
    if not hasattr(PEFT_TYPE_TO_TUNER_MAPPING.get(kind), "merge_and_unload"):
        raise CircuitsError(
            f"{folder}: an adapter of type {kind} adds to the prompt or to the layers; only what "
            "can be merged into the weights, such as a LoRA, is supported"
        )


def _untie(model: PreTrainedModel) -> None:
    """Give the output a matrix of its own where an adapter sits on one of two tied ones; merged
    into the common one, it would change both.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    ends: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    if not any(isinstance(end, BaseTunerLayer) for end in ends):
        return
    plain: list[Any] = [
        end.get_base_layer() if isinstance(end, BaseTunerLayer) else end for end in ends
    ]
    if plain[0].weight is plain[1].weight:
        plain[1].weight = nn.Parameter(plain[1].weight.detach().clone(), requires_grad=False)
