"""Searching for a circuit by taking parts of the model away, one at a time."""

from circuits.search.acdc import acdc
from circuits.search.result import Search

__all__ = ["Search", "acdc"]
