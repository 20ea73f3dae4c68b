"""A model beside the scores that must have been made from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from circuits.cli.options import load_hooked
from circuits.errors import CircuitsError
from circuits.options.model import LoadOptions

if TYPE_CHECKING:
    from circuits.graph import Provenance
    from circuits.models import HookedModel


def load_scored(
    source: str,
    loading: LoadOptions,
    file: Path | None,
    made_from: Provenance,
) -> HookedModel:
    """The model, refused where the scores in the file say that they were made from another."""
    from circuits.provenance import source_of_other_weights

    model = load_hooked(source, loading)
    if other_model := source_of_other_weights(model, made_from):
        origin = (
            f"from other weights than {source} holds now"
            if other_model == source
            else f"from {other_model}"
        )
        raise CircuitsError(
            f"{file}: these scores were made {origin}, and are used with the model {source}; give "
            "models in the order of their score files, or score this model again"
        )
    return model
