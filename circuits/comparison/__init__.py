"""What fine-tuning changed between the scores of checkpoints, with the noise told apart."""

from circuits.comparison.cross_evaluation import CrossEvaluation, cross_evaluate
from circuits.comparison.edges import Comparison, Evolution, compare

__all__ = ["Comparison", "CrossEvaluation", "Evolution", "compare", "cross_evaluate"]
