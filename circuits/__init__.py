"""What we find inside a model: which edges between heads and MLPs carry a task.

Names are loaded when first used, so that `import circuits` and `circuits --help` are quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.attribution import attribute, attribute_nodes
    from circuits.comparison import compare, cross_evaluate
    from circuits.evaluation import (
        choose_ranking,
        completeness,
        evaluate,
        faithfulness,
        minimality,
        reliability,
        robustness,
        stability,
        task_performance,
        tune_positive_ratio,
    )
    from circuits.graph import (
        Circuit,
        EdgeScores,
        Layout,
        NodeCircuit,
        NodeScores,
        select,
        select_nodes,
    )
    from circuits.intervention.patching import Patching, patch, path_patch
    from circuits.model_diff import diff_models
    from circuits.models import HookedModel
    from circuits.tuning.targets import lora_config

_HOMES = {
    "attribute": "circuits.attribution",
    "attribute_nodes": "circuits.attribution",
    "tune_positive_ratio": "circuits.evaluation",
    "choose_ranking": "circuits.evaluation",
    "completeness": "circuits.evaluation",
    "evaluate": "circuits.evaluation",
    "faithfulness": "circuits.evaluation",
    "minimality": "circuits.evaluation",
    "reliability": "circuits.evaluation",
    "robustness": "circuits.evaluation",
    "stability": "circuits.evaluation",
    "task_performance": "circuits.evaluation",
    "until_stable": "circuits.evaluation",
    "compare": "circuits.comparison",
    "cross_evaluate": "circuits.comparison",
    "diff_models": "circuits.model_diff",
    "Circuit": "circuits.graph",
    "EdgeScores": "circuits.graph",
    "Layout": "circuits.graph",
    "NodeCircuit": "circuits.graph",
    "NodeScores": "circuits.graph",
    "select": "circuits.graph",
    "select_nodes": "circuits.graph",
    "Patching": "circuits.intervention.patching",
    "patch": "circuits.intervention.patching",
    "path_patch": "circuits.intervention.patching",
    "HookedModel": "circuits.models",
    "lora_config": "circuits.tuning.targets",
}

__all__ = [
    "Circuit",
    "CircuitsError",
    "EdgeScores",
    "HookedModel",
    "Layout",
    "NodeCircuit",
    "NodeScores",
    "Patching",
    "attribute",
    "attribute_nodes",
    "choose_ranking",
    "compare",
    "completeness",
    "cross_evaluate",
    "diff_models",
    "evaluate",
    "faithfulness",
    "lora_config",
    "minimality",
    "patch",
    "path_patch",
    "reliability",
    "robustness",
    "select",
    "select_nodes",
    "stability",
    "task_performance",
    "tune_positive_ratio",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'circuits' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
