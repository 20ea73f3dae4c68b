"""Whether scores, or a circuit chosen by them, are of the model that they are used on.

Scores record a hash of the weights as they were loaded, so two can be held against each other only
where the dtype is the same; and merging an adapter rounds by device, so the same folder is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from circuits.attribution.provenance import describe_model
from circuits.models import HookedModel


def made_from_another(model: HookedModel, details: Mapping[str, Any]) -> str | None:
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
