"""The one error class and what goes with it, seen from this package."""

from tasks.errors import CircuitsError, naming, unrepeated

__all__ = ["CircuitsError", "naming", "unrepeated"]
