"""The error classes of the project, in one place to import and to catch from."""

from tasks.errors import CircuitsError, InputError, TooFewError, error_context, unrepeated

__all__ = [
    "CircuitsError",
    "DivergedError",
    "InputError",
    "TooFewError",
    "UndefinedMetricError",
    "UnsupportedError",
    "error_context",
    "unrepeated",
]


class UndefinedMetricError(CircuitsError):
    """A figure that does not exist, as clean and corrupted metric are equal: it divides by 0."""


class UnsupportedError(CircuitsError):
    """A model, an adapter or a file of a kind that this package does not read."""


class DivergedError(CircuitsError):
    """A training whose loss is no longer finite."""
