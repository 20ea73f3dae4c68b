"""How far a circuit's claim holds."""

from circuits.evaluation.faithfulness import FRACTIONS, Faithfulness, faithfulness
from circuits.evaluation.intervals import Estimate
from circuits.evaluation.measure import VanishingMetricError, measure
from circuits.evaluation.minimality import Minimality, minimality
from circuits.evaluation.robustness import Condition, robustness

__all__ = [
    "FRACTIONS",
    "Condition",
    "Estimate",
    "Faithfulness",
    "Minimality",
    "VanishingMetricError",
    "faithfulness",
    "measure",
    "minimality",
    "robustness",
]
