"""GGUF files as a source of models: plain ones, with the tokenizer of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuits.models.gguf.configuration import configuration
    from circuits.models.gguf.container import GGUF
    from circuits.models.gguf.tokenizer import load_tokenizer
    from circuits.models.gguf.weights import load_weights

_PLACES = {
    "GGUF": "container",
    "configuration": "configuration",
    "load_tokenizer": "tokenizer",
    "load_weights": "weights",
}
__all__ = ["GGUF", "configuration", "load_tokenizer", "load_weights"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for: where no GGUF file is read, none of this is."""
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
