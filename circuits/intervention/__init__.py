"""Changing what a model computes, and looking at what comes out."""

from circuits.intervention.executor import Executor

__all__ = ["Executor"]
