"""Changing what a model computes, and looking at what comes out."""

from circuits.intervention.ablation import ABLATIONS, MeanActivations, constants
from circuits.intervention.executor import CircuitRunner

__all__ = ["ABLATIONS", "CircuitRunner", "MeanActivations", "constants"]
