"""What goes wrong while weights are read, and how it is said."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from huggingface_hub.errors import HFValidationError, StrictDataclassError
from safetensors import SafetensorError

from tasks.pointers import pointer_among

LOAD_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    ImportError,  # a quantised checkpoint, and the package that reads it is not installed
    EOFError,
    HFValidationError,
    StrictDataclassError,  # a field of the configuration, or how fields go together
    SafetensorError,
    pickle.UnpicklingError,
    # what a configuration of the right types and the wrong values ends in, without a message
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    ArithmeticError,
)
"""What transformers and PEFT raise for checkpoints that they cannot read."""

_WRAPPERS = ("_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod.")
_WORDLESS = (LookupError, AttributeError, TypeError, AssertionError, ArithmeticError)


def first_sentence(error: Exception) -> str:
    """The first sentence of an error, in one line.

    Of a strict check of a configuration that is what it found; its first line says which check.
    """
    text = str(error)
    if isinstance(error, StrictDataclassError) and "\n" in text:
        text = re.sub(r"^\s*\w+: ", "", text.split("\n", 1)[1])
    return " ".join(text.split()).split(". ")[0]


def reason(error: Exception, config: Path) -> str:
    """Why a model cannot be loaded: a file of its folder that was never fetched, or the error's
    first sentence, and the field of the configuration (a JSON file) that it is about where the
    error does not say.
    """
    if pointer := unfetched(config.parent):
        return pointer
    message = first_sentence(error)
    generation = config.with_name("generation_config.json")
    if generation.is_file() and not _can_be_read(generation):
        return f"{generation.name}: {message}"
    if not isinstance(error, _WORDLESS):
        return message
    guilty = _guilty(error, config)
    field = "" if guilty is None else f"; {config.name} has {guilty[0]} {guilty[1]!r}"
    return f"{type(error).__name__}: {message}{field}"


def unfetched(folder: Path) -> str | None:
    """What to say of a file in a local folder that a clone left as a Git LFS pointer, if one is."""
    return pointer_among(*sorted(folder.iterdir())) if folder.is_dir() else None


def wrapper(wanted: Collection[str], names: Collection[str]) -> str | None:
    """The prefix of a wrapper that a checkpoint was saved from: with it, all that is wanted is
    there; None where that is not so.

    `torch.compile` puts `_orig_mod.` before each name, `DistributedDataParallel` `module.`.
    """
    for prefix in _WRAPPERS:
        if wanted and all(f"{prefix}{name}" in names for name in wanted):
            return prefix
    return None


def _guilty(error: Exception, config: Path) -> tuple[str, object] | None:
    """The field that an error is about: its value is in the message, or without it all is well."""
    try:
        record = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict):
        return None
    if "Padding_idx" in str(error):
        return "pad_token_id", record.get("pad_token_id")
    for name, value in _leaves(record):
        if isinstance(value, str) and value and f"'{value}'" in str(error):
            return name, value
    if _can_be_made(record):
        return None  # the weights' doing, or that of fields together
    without = ((name, {k: v for k, v in record.items() if k != name}) for name in record)
    return next(((name, record[name]) for name, rest in without if _can_be_made(rest)), None)


def _leaves(record: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _can_be_made(record: dict[str, object]) -> bool:
    """Whether transformers makes a configuration of these fields."""
    from transformers import AutoConfig

    try:
        make_config: Callable[..., object] = AutoConfig.for_model
        make_config(**record)
    except LOAD_ERRORS:
        return False
    return True


def _can_be_read(generation: Path) -> bool:
    """Whether transformers reads a folder's generation settings, which it does with the weights."""
    from transformers import GenerationConfig

    try:
        GenerationConfig.from_pretrained(str(generation.parent))
    except OSError:
        return True  # no JSON: it goes on without
    except LOAD_ERRORS:
        return False
    return True


def abbreviated(names: Sequence[str]) -> str:
    """The first of many names, for a message."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
