"""The one error class, seen from this package."""

from tasks.errors import CircuitsError

__all__ = ["CircuitsError"]
