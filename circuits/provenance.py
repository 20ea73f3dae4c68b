"""What a result says of the data, the model and the packages that it comes from.

Scores record a hash of the weights as they were loaded, so two can be held against each other only
where the dtype is the same; and merging an adapter rounds by device, so the same folder is enough.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
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


def source_of_other_weights(model: HookedModel, details: Mapping[str, Any]) -> str | None:
    """The name of the other model that scores were made from; None where they were not, or where
    it cannot be told.

    details: of the scores or of the circuit.
    """
    recorded = details.get("model")
    if not isinstance(recorded, Mapping):
        return None
    adapter = (Path(model.name) / "adapter_config.json").is_file()
    if adapter and recorded.get("name") == model.name:
        return None
    return str(recorded.get("name")) if differ(describe_model(model), recorded) else None


def differ(one: Any, other: Any) -> bool:
    """Whether two records of models (`describe_model`) are known to be of different weights."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return False
    hashes = one.get("fingerprint"), other.get("fingerprint")
    return all(hashes) and hashes[0] != hashes[1] and one.get("dtype") == other.get("dtype")
