"""The one error class and what goes with it, seen from this package."""

from tasks.errors import CircuitsError, TooFewError, naming, unrepeated

__all__ = ["CircuitsError", "TooFewError", "naming", "unrepeated"]
