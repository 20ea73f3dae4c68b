"""Models whose circuit is known, because their weights were written for it: to test methods on."""

from circuits.known.model import KnownModel
from circuits.known.ranking import auroc, found_first, sizes
from circuits.known.registry import load, names

__all__ = ["KnownModel", "auroc", "found_first", "load", "names", "sizes"]
