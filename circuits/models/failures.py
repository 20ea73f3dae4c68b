"""What goes wrong while weights are read, and how it is said."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError

UNLOADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    ImportError,  # a quantised checkpoint, and the package that reads it is not installed
    EOFError,
    HFValidationError,
    SafetensorError,
    pickle.UnpicklingError,
)
"""What transformers and PEFT raise for checkpoints that they cannot read."""


def first_sentence(error: Exception) -> str:
    """The first sentence of an error, in one line."""
    return " ".join(str(error).split()).split(". ")[0]


def some(names: Sequence[str]) -> str:
    """The first of many names, for a message."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
