"""Changing what a model computes, and looking at what comes out."""

from circuits.intervention.ablation import ABLATIONS, Means, constants
from circuits.intervention.executor import Executor

__all__ = ["ABLATIONS", "Executor", "Means", "constants"]
