"""How far a circuit's claim holds."""

from circuits.evaluation.completeness import Completeness, completeness
from circuits.evaluation.ensemble_weights import EnsembleWeights, choose_weights
from circuits.evaluation.evaluate import evaluate
from circuits.evaluation.faithfulness import (
    FRACTIONS,
    Curve,
    CurveConfig,
    Faithfulness,
    faithfulness,
)
from circuits.evaluation.measure import degenerate_reason, faithfulness_from_means, measure
from circuits.evaluation.minimality import Minimality, minimality
from circuits.evaluation.perturbations import PERTURBATIONS, perturb
from circuits.evaluation.positive_ratio import RatioConfig, RatioSearch, tune_positive_ratio
from circuits.evaluation.ranking import RankingTrials, choose_ranking
from circuits.evaluation.reliability import reliability
from circuits.evaluation.results import (
    CheckpointEvaluation,
    CircuitEvaluation,
    CircuitSummary,
    Evaluation,
    EvaluationProvenance,
    PairsUsed,
    SummaryQuality,
    Undefined,
)
from circuits.evaluation.robustness import Condition, robustness
from circuits.evaluation.stability import Stability, stability
from circuits.evaluation.task_performance import task_performance
from circuits.evaluation.until_stable import until_stable
from circuits.graph.findings import RankingChoice, Reliability, TaskPerformance
from circuits.options.ensemble import WeightTrials
from circuits.options.evaluation import (
    CompletenessConfig,
    EvalConfig,
    MinimalityConfig,
    StabilityConfig,
)
from circuits.statistics.estimate import Estimate

__all__ = [
    "FRACTIONS",
    "PERTURBATIONS",
    "CheckpointEvaluation",
    "CircuitEvaluation",
    "CircuitSummary",
    "Completeness",
    "CompletenessConfig",
    "Condition",
    "Curve",
    "CurveConfig",
    "EnsembleWeights",
    "Estimate",
    "EvalConfig",
    "Evaluation",
    "EvaluationProvenance",
    "Faithfulness",
    "Minimality",
    "MinimalityConfig",
    "PairsUsed",
    "RankingChoice",
    "RankingTrials",
    "RatioConfig",
    "RatioSearch",
    "Reliability",
    "Stability",
    "StabilityConfig",
    "SummaryQuality",
    "TaskPerformance",
    "Undefined",
    "WeightTrials",
    "choose_ranking",
    "choose_weights",
    "completeness",
    "degenerate_reason",
    "evaluate",
    "faithfulness",
    "faithfulness_from_means",
    "measure",
    "minimality",
    "perturb",
    "reliability",
    "robustness",
    "stability",
    "task_performance",
    "tune_positive_ratio",
    "until_stable",
]
