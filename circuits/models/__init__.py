"""Models: where they come from, and what is where in them."""

from circuits.models.checkpoints import checkpoint_series, load_model
from circuits.models.hooked import HookedModel
from circuits.models.stream import DecomposedStream, SourceActivations
from circuits.models.view import View
from circuits.models.weight_loading import WeightLoading

__all__ = [
    "DecomposedStream",
    "HookedModel",
    "SourceActivations",
    "View",
    "WeightLoading",
    "checkpoint_series",
    "load_model",
]
