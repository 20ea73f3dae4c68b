"""How far a circuit's claim holds."""

from circuits.evaluation.completeness import Completeness, completeness
from circuits.evaluation.evaluate import EvalConfig, evaluate
from circuits.evaluation.faithfulness import FRACTIONS, Curve, Faithfulness, faithfulness
from circuits.evaluation.measure import measure, nothing_left
from circuits.evaluation.minimality import Minimality, minimality
from circuits.evaluation.perturbations import PERTURBATIONS, perturb
from circuits.evaluation.positive_ratio import RatioSearch, tune_positive_ratio
from circuits.evaluation.ranking import choose_ranking
from circuits.evaluation.reliability import reliability
from circuits.evaluation.robustness import Condition, robustness
from circuits.evaluation.stability import Stability, stability
from circuits.evaluation.task_performance import task_performance
from circuits.evaluation.until_stable import until_stable
from circuits.graph.findings import RankingChoice, Reliability, TaskPerformance
from circuits.statistics.estimate import Estimate

__all__ = [
    "FRACTIONS",
    "PERTURBATIONS",
    "Completeness",
    "Condition",
    "Curve",
    "Estimate",
    "EvalConfig",
    "Faithfulness",
    "Minimality",
    "RankingChoice",
    "RatioSearch",
    "Reliability",
    "Stability",
    "TaskPerformance",
    "choose_ranking",
    "completeness",
    "evaluate",
    "faithfulness",
    "measure",
    "minimality",
    "nothing_left",
    "perturb",
    "reliability",
    "robustness",
    "stability",
    "task_performance",
    "tune_positive_ratio",
    "until_stable",
]
