"""What fine-tuning changed between checkpoints, with the noise told apart."""

from circuits.evolution.crossing import CrossEvaluation, cross_evaluate
from circuits.evolution.edges import Comparison, Evolution, compare
from circuits.evolution.internals import Internals, internals

__all__ = [
    "Comparison",
    "CrossEvaluation",
    "Evolution",
    "Internals",
    "compare",
    "cross_evaluate",
    "internals",
]
