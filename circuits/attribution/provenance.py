"""What a result says of the data, the model and the packages that it comes from."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

from circuits.models import HookedModel
from tasks.pairs import PairSet


def describe_pairs(pairs: PairSet) -> dict[str, Any]:
    """What a result must say of its data."""
    left_out = {"skipped": len(pairs.skipped)} if pairs.skipped else {}
    return {
        "task": pairs.task,
        "split": pairs.split,
        "n": len(pairs),
        "fingerprint": pairs.fingerprint,
        **left_out,
    }


def describe_model(model: HookedModel) -> dict[str, Any]:
    """What a result must say of its model."""
    return {
        "name": model.name,
        "architecture": type(model.hf).__name__,
        "dtype": model.dtype_name,
        "fingerprint": model.fingerprint,
        **({} if model.gguf is None else {"gguf": dict(model.gguf)}),
        **({} if model.asked_tokenizer is None else {"tokenizer": model.asked_tokenizer}),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that a figure can depend on: of the modules that are loaded, where
    they say theirs, as an installation may have changed since.
    """
    names = ("circuits", "torch", "transformers", "transformer-lens")
    loaded = {name: sys.modules.get(name.replace("-", "_")) for name in names}
    return {
        name: str(getattr(module, "__version__", None) or version(name))
        for name, module in loaded.items()
    }
