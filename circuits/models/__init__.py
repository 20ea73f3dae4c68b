"""Models: where they come from, and what is where in them."""

from circuits.models.checkpoints import load_model, series
from circuits.models.hooked import HookedModel
from circuits.models.stream import SourceStates, Wide
from circuits.models.view import View

__all__ = ["HookedModel", "SourceStates", "View", "Wide", "load_model", "series"]
