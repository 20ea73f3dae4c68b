"""What fine-tuning changed between the scores of checkpoints, apart from noise."""

from circuits.comparison.across import CrossTasks, TaskRow, cross_tasks
from circuits.comparison.checkpoints import compare
from circuits.comparison.cross_evaluation import CrossEvaluation, cross_evaluate
from circuits.comparison.evolution import Comparison, Evolution

__all__ = [
    "Comparison",
    "CrossEvaluation",
    "CrossTasks",
    "Evolution",
    "TaskRow",
    "compare",
    "cross_evaluate",
    "cross_tasks",
]
