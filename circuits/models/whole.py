"""Whether a checkpoint is whole: sizes that make a model, and a weight for every place."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TypedDict

from transformers import PreTrainedConfig, PreTrainedModel

from circuits.errors import CircuitsError
from circuits.models.load_errors import abbreviated, wrapper
from circuits.runtime.notices import say

_SIZES = (
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_size",
    "intermediate_size",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)


def require_sizes(source: str | Path, config: PreTrainedConfig) -> None:
    """Refuse a size below 1, which transformers takes and which ends in a model of nothing."""
    text = config.get_text_config()
    for name in _SIZES:
        size = getattr(text, name, None)
        if isinstance(size, int) and size < 1:
            raise CircuitsError(
                f"{source}: the model folder cannot be loaded (its configuration has {name} "
                f"{size}, which must be at least 1)"
            )


class LoadingInfo(TypedDict):
    """What `from_pretrained(output_loading_info=True)` says, as far as it is looked at."""

    missing_keys: Collection[str]
    unexpected_keys: Collection[str]
    mismatched_keys: Collection[tuple[object, ...]]


def require_whole(source: str | Path, model: PreTrainedModel, loaded: LoadingInfo) -> None:
    """Refuse random weights. Tied ones, and those a model can do without, are not among them.

    What the checkpoint has beyond the model, as the head of a classifier, is said: it is left out.
    """
    if prefix := wrapper(loaded["missing_keys"], loaded["unexpected_keys"]):
        raise CircuitsError(
            f"{source}: the names of its weights begin with {prefix!r}, so it was saved from a "
            "wrapped model (torch.compile, DistributedDataParallel); save the model within, or "
            "take the prefix off"
        )
    mismatched = [str(name) for name, *_ in loaded["mismatched_keys"]]
    for what, names in (("missing", loaded["missing_keys"]), ("of another shape", mismatched)):
        if names:
            raise CircuitsError(
                f"{source}: weights of {type(model).__name__} are {what}: "
                f"{abbreviated(sorted(names))}; the checkpoint is incomplete, or of another model"
            )
    if extra := sorted(loaded["unexpected_keys"]):
        say(
            f"{source}: the checkpoint holds weights that {type(model).__name__} has no place for, "
            f"and they are left out: {abbreviated(extra)}"
        )
