"""What a result says of the data, the model and the packages that it comes from.

Scores record a hash of the weights as they were loaded, so two can be held against each other only
where the dtype is the same; and merging an adapter rounds by device, so the same folder is enough.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from circuits.graph.provenance import DataRecord, ModelRecord, Provenance, Versions
from circuits.models import HookedModel
from tasks.pairs import PairSet


def describe_pairs(pairs: PairSet) -> DataRecord:
    """What a result must say of its data."""
    return DataRecord(
        task=pairs.task,
        split=pairs.split,
        n=len(pairs),
        fingerprint=pairs.fingerprint,
        skipped=len(pairs.skipped),
    )


def describe_model(model: HookedModel) -> ModelRecord:
    """What a result must say of its model."""
    return ModelRecord(
        name=model.name,
        architecture=type(model.hf).__name__,
        dtype=model.dtype_name,
        fingerprint=model.fingerprint,
        quantisation=model.quantisation,
        gguf=model.gguf,
        tokenizer=model.asked_tokenizer,
    )


def versions() -> Versions:
    """Versions of the packages that a figure can depend on: of the modules that are loaded, where
    they say theirs, as an installation may have changed since.
    """
    return Versions(
        circuits=_version("circuits"),
        torch=_version("torch"),
        transformers=_version("transformers"),
        transformer_lens=_version("transformer-lens"),
    )


def source_of_other_weights(model: HookedModel, made_from: Provenance) -> str | None:
    """The name of the other model that scores were made from.

    Args:
        model: the model to hold them against.
        made_from: the provenance of the scores, or of the circuit.

    Returns:
        The name; None where they were made from this model, or where it cannot be told.
    """
    recorded = made_from.model
    if recorded is None:
        return None
    adapter = (Path(model.name) / "adapter_config.json").is_file()
    if adapter and recorded.name == model.name:
        return None
    return recorded.name if describe_model(model).has_other_weights(recorded) else None


def _version(name: str) -> str:
    module = sys.modules.get(name.replace("-", "_"))
    return str(getattr(module, "__version__", None) or version(name))
