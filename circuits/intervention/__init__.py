"""Changing what a model computes, and looking at what comes out."""

from circuits.intervention.executor import Executor
from circuits.intervention.replacement import REPLACEMENTS, Means, constants

__all__ = ["REPLACEMENTS", "Executor", "Means", "constants"]
