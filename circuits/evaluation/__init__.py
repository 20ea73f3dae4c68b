"""How far a circuit's claim holds."""

from circuits.evaluation.backups import Backups, backups
from circuits.evaluation.circuit_tests import CircuitTests, equivalence_test, independence_test
from circuits.evaluation.clusters import Clusters, clusters
from circuits.evaluation.completeness import Completeness, completeness
from circuits.evaluation.doubts import doubts
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
from circuits.evaluation.mib import MIBCurve, MIBEvaluation, mib_evaluation
from circuits.evaluation.minimality import Minimality, minimality
from circuits.evaluation.null_model import NullModel, null_model
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
from circuits.evaluation.rivals import Rivals, avoiding, rivals
from circuits.evaluation.robustness import Accuracy, Condition, by_ablation, robustness
from circuits.evaluation.stability import Stability, stability
from circuits.evaluation.stability_verdict import StabilityVerdict, stability_verdict
from circuits.evaluation.task_performance import task_performance
from circuits.evaluation.until_stable import until_stable
from circuits.evaluation.worst_examples import WorstExamples, worst_examples
from circuits.graph.findings import RankingChoice, Reliability, TaskPerformance
from circuits.options.ensemble import WeightTrials
from circuits.options.evaluation import (
    BackupsConfig,
    ClustersConfig,
    CompletenessConfig,
    EvalConfig,
    MinimalityConfig,
    NullModelConfig,
    RivalsConfig,
    StabilityConfig,
)
from circuits.statistics.estimate import Estimate

__all__ = [
    "FRACTIONS",
    "PERTURBATIONS",
    "Accuracy",
    "Backups",
    "BackupsConfig",
    "CheckpointEvaluation",
    "CircuitEvaluation",
    "CircuitSummary",
    "CircuitTests",
    "Clusters",
    "ClustersConfig",
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
    "MIBCurve",
    "MIBEvaluation",
    "Minimality",
    "MinimalityConfig",
    "NullModel",
    "NullModelConfig",
    "PairsUsed",
    "RankingChoice",
    "RankingTrials",
    "RatioConfig",
    "RatioSearch",
    "Reliability",
    "Rivals",
    "RivalsConfig",
    "Stability",
    "StabilityConfig",
    "StabilityVerdict",
    "SummaryQuality",
    "TaskPerformance",
    "Undefined",
    "WeightTrials",
    "WorstExamples",
    "avoiding",
    "backups",
    "by_ablation",
    "choose_ranking",
    "choose_weights",
    "clusters",
    "completeness",
    "degenerate_reason",
    "doubts",
    "equivalence_test",
    "evaluate",
    "faithfulness",
    "faithfulness_from_means",
    "independence_test",
    "measure",
    "mib_evaluation",
    "minimality",
    "null_model",
    "perturb",
    "reliability",
    "rivals",
    "robustness",
    "stability",
    "stability_verdict",
    "task_performance",
    "tune_positive_ratio",
    "until_stable",
    "worst_examples",
]
