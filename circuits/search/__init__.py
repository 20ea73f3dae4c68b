"""Searching for a circuit by taking parts of the model away, one at a time."""

from circuits.options.search import AcdcConfig, HeadPruningConfig
from circuits.search.acdc import acdc
from circuits.search.head_pruning import HeadPruning, prune_heads
from circuits.search.result import Search

__all__ = ["AcdcConfig", "HeadPruning", "HeadPruningConfig", "Search", "acdc", "prune_heads"]
