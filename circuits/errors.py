"""The one error class and what goes with it, seen from this package."""

from tasks.errors import CircuitsError, TooFewError, error_context, unrepeated

__all__ = ["CircuitsError", "TooFewError", "error_context", "unrepeated"]
