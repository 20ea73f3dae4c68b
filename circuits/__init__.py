"""What we find inside a model: which edges between heads and MLPs carry a task.

Names are loaded when first used, so that `import circuits` and `circuits --help` are quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from circuits.errors import CircuitsError, InputError, UndefinedMetricError, UnsupportedError

if TYPE_CHECKING:
    from circuits.attribution import attribute, attribute_nodes, patch_edges
    from circuits.attribution.dataset_scores import GrowingPairs, Growth
    from circuits.attribution.edge_effects import EdgeEffects
    from circuits.attribution.method import Method
    from circuits.comparison import (
        Comparison,
        CrossEvaluation,
        CrossTasks,
        Evolution,
        compare,
        cross_evaluate,
        cross_tasks,
    )
    from circuits.doctor import Diagnosis, diagnose
    from circuits.evaluation import (
        CircuitEvaluation,
        Completeness,
        CompletenessConfig,
        Condition,
        Curve,
        CurveConfig,
        EnsembleWeights,
        EvalConfig,
        Evaluation,
        Faithfulness,
        MIBEvaluation,
        Minimality,
        MinimalityConfig,
        RankingChoice,
        RankingTrials,
        RatioConfig,
        RatioSearch,
        Reliability,
        Stability,
        TaskPerformance,
        Undefined,
        WeightTrials,
        choose_ranking,
        choose_weights,
        completeness,
        evaluate,
        faithfulness,
        mib_evaluation,
        minimality,
        reliability,
        robustness,
        stability,
        task_performance,
        tune_positive_ratio,
        until_stable,
    )
    from circuits.evaluation.results import CheckpointEvaluation
    from circuits.explorer import explore
    from circuits.export import AblatedModel, ablated_model, export_ablated
    from circuits.graph import (
        Circuit,
        EdgeScores,
        Layout,
        NodeCircuit,
        NodeScores,
        select,
        select_nodes,
    )
    from circuits.graph.ensemble import ensemble
    from circuits.graph.provenance import Provenance
    from circuits.importance import (
        LayerImportance,
        MapImportance,
        ResampledChanges,
        importance_of_maps,
    )
    from circuits.inspection import Inspection, inspect
    from circuits.intervention import MeanActivations
    from circuits.intervention.patching import Patching, PatchSpec, patch, path_patch
    from circuits.masks import LearnedMask, MaskConfig, learn_mask
    from circuits.model_diff import ModelDiff, diff_models
    from circuits.model_diff.restoration import restore_neurons
    from circuits.model_diff.restored import Restoration
    from circuits.models import HookedModel
    from circuits.options.comparison import ComparisonOptions
    from circuits.options.engine import RayEngine
    from circuits.options.ensemble import EnsembleConfig
    from circuits.options.evaluation import (
        BackupsConfig,
        ClustersConfig,
        NullModelConfig,
        RivalsConfig,
        StabilityConfig,
    )
    from circuits.options.restoration import RestorationConfig
    from circuits.options.run import RunOptions
    from circuits.options.tuning import AdapterOptions, FinetuneSettings, LoraProtocol
    from circuits.runs import MissingResultError, RunFolder, open_run
    from circuits.runtime.cluster.pool import close_engine
    from circuits.runtime.resume import PartialResults, Pieces
    from circuits.statistics.estimate import Estimate, Estimates
    from circuits.study import Study
    from circuits.tuning.adapter_circuits import AdapterCircuits, compare_adapter_circuits
    from circuits.tuning.conditions import lora_targets
    from circuits.tuning.lora_comparison import ComparedExamples, compare_lora_targets
    from circuits.tuning.lora_result import LoraComparison
    from circuits.tuning.lora_targets import LoraTarget
    from circuits.tuning.targets import lora_config

__version__ = "0.1.0"
"""The one place that says it: the distribution, `circuits --version` and result files take it."""

_HOMES = {
    "circuits.attribution": ("attribute", "attribute_nodes", "patch_edges"),
    "circuits.attribution.dataset_scores": ("GrowingPairs", "Growth"),
    "circuits.attribution.edge_effects": ("EdgeEffects",),
    "circuits.attribution.method": ("Method",),
    "circuits.comparison": (
        "Comparison",
        "CrossEvaluation",
        "CrossTasks",
        "Evolution",
        "compare",
        "cross_evaluate",
        "cross_tasks",
    ),
    "circuits.doctor": ("Diagnosis", "diagnose"),
    "circuits.evaluation": (
        "CircuitEvaluation",
        "Completeness",
        "CompletenessConfig",
        "Condition",
        "Curve",
        "CurveConfig",
        "EnsembleWeights",
        "EvalConfig",
        "Evaluation",
        "Faithfulness",
        "MIBEvaluation",
        "Minimality",
        "MinimalityConfig",
        "RankingChoice",
        "RankingTrials",
        "RatioConfig",
        "RatioSearch",
        "Reliability",
        "Stability",
        "TaskPerformance",
        "Undefined",
        "WeightTrials",
        "choose_ranking",
        "choose_weights",
        "completeness",
        "evaluate",
        "faithfulness",
        "mib_evaluation",
        "minimality",
        "reliability",
        "robustness",
        "stability",
        "task_performance",
        "tune_positive_ratio",
        "until_stable",
    ),
    "circuits.evaluation.results": ("CheckpointEvaluation",),
    "circuits.explorer": ("explore",),
    "circuits.export": ("AblatedModel", "ablated_model", "export_ablated"),
    "circuits.graph": (
        "Circuit",
        "EdgeScores",
        "Layout",
        "NodeCircuit",
        "NodeScores",
        "select",
        "select_nodes",
    ),
    "circuits.graph.ensemble": ("ensemble",),
    "circuits.graph.provenance": ("Provenance",),
    "circuits.importance": (
        "LayerImportance",
        "MapImportance",
        "ResampledChanges",
        "importance_of_maps",
    ),
    "circuits.inspection": ("Inspection", "inspect"),
    "circuits.intervention": ("MeanActivations",),
    "circuits.intervention.patching": ("PatchSpec", "Patching", "patch", "path_patch"),
    "circuits.masks": ("LearnedMask", "MaskConfig", "learn_mask"),
    "circuits.model_diff": ("ModelDiff", "diff_models"),
    "circuits.model_diff.restoration": ("restore_neurons",),
    "circuits.model_diff.restored": ("Restoration",),
    "circuits.models": ("HookedModel",),
    "circuits.options.comparison": ("ComparisonOptions",),
    "circuits.options.engine": ("RayEngine",),
    "circuits.options.ensemble": ("EnsembleConfig",),
    "circuits.options.evaluation": (
        "BackupsConfig",
        "ClustersConfig",
        "NullModelConfig",
        "RivalsConfig",
        "StabilityConfig",
    ),
    "circuits.options.restoration": ("RestorationConfig",),
    "circuits.options.run": ("RunOptions",),
    "circuits.options.tuning": ("AdapterOptions", "FinetuneSettings", "LoraProtocol"),
    "circuits.runs": ("MissingResultError", "RunFolder", "open_run"),
    "circuits.runtime.cluster.pool": ("close_engine",),
    "circuits.runtime.resume": ("PartialResults", "Pieces"),
    "circuits.statistics.estimate": ("Estimate", "Estimates"),
    "circuits.study": ("Study",),
    "circuits.tuning.adapter_circuits": ("AdapterCircuits", "compare_adapter_circuits"),
    "circuits.tuning.conditions": ("lora_targets",),
    "circuits.tuning.lora_comparison": ("ComparedExamples", "compare_lora_targets"),
    "circuits.tuning.lora_result": ("LoraComparison",),
    "circuits.tuning.lora_targets": ("LoraTarget",),
    "circuits.tuning.targets": ("lora_config",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AblatedModel",
    "AdapterCircuits",
    "AdapterOptions",
    "BackupsConfig",
    "CheckpointEvaluation",
    "Circuit",
    "CircuitEvaluation",
    "CircuitsError",
    "ClustersConfig",
    "ComparedExamples",
    "Comparison",
    "ComparisonOptions",
    "Completeness",
    "CompletenessConfig",
    "Condition",
    "CrossEvaluation",
    "CrossTasks",
    "Curve",
    "CurveConfig",
    "Diagnosis",
    "EdgeEffects",
    "EdgeScores",
    "EnsembleConfig",
    "EnsembleWeights",
    "Estimate",
    "Estimates",
    "EvalConfig",
    "Evaluation",
    "Evolution",
    "Faithfulness",
    "FinetuneSettings",
    "GrowingPairs",
    "Growth",
    "HookedModel",
    "InputError",
    "Inspection",
    "LayerImportance",
    "Layout",
    "LearnedMask",
    "LoraComparison",
    "LoraProtocol",
    "LoraTarget",
    "MIBEvaluation",
    "MapImportance",
    "MaskConfig",
    "MeanActivations",
    "Method",
    "Minimality",
    "MinimalityConfig",
    "MissingResultError",
    "ModelDiff",
    "NodeCircuit",
    "NodeScores",
    "NullModelConfig",
    "PartialResults",
    "PatchSpec",
    "Patching",
    "Pieces",
    "Provenance",
    "RankingChoice",
    "RankingTrials",
    "RatioConfig",
    "RatioSearch",
    "RayEngine",
    "Reliability",
    "ResampledChanges",
    "Restoration",
    "RestorationConfig",
    "RivalsConfig",
    "RunFolder",
    "RunOptions",
    "Stability",
    "StabilityConfig",
    "Study",
    "TaskPerformance",
    "Undefined",
    "UndefinedMetricError",
    "UnsupportedError",
    "WeightTrials",
    "ablated_model",
    "attribute",
    "attribute_nodes",
    "choose_ranking",
    "choose_weights",
    "close_engine",
    "compare",
    "compare_adapter_circuits",
    "compare_lora_targets",
    "completeness",
    "cross_evaluate",
    "cross_tasks",
    "diagnose",
    "diff_models",
    "ensemble",
    "evaluate",
    "explore",
    "export_ablated",
    "faithfulness",
    "importance_of_maps",
    "inspect",
    "learn_mask",
    "lora_config",
    "lora_targets",
    "mib_evaluation",
    "minimality",
    "open_run",
    "patch",
    "patch_edges",
    "path_patch",
    "plot",
    "reliability",
    "restore_neurons",
    "robustness",
    "select",
    "select_nodes",
    "stability",
    "task_performance",
    "tune_positive_ratio",
    "until_stable",
]


def __getattr__(name: str) -> object:
    if name == "plot":
        return importlib.import_module("circuits.plot")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'circuits' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
