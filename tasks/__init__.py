"""What we ask a model: clean and corrupted prompt pairs, and articles to summarise.

`load("table", path="pairs.csv")` makes a task; its `pairs(tokenizer, n)` makes a `PairSet`. Nothing
heavy is imported until it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tasks.errors import CircuitsError
from tasks.registry import describe, load, names, options

if TYPE_CHECKING:
    from tasks.pairs import PairBatch, PairSet, PromptPair, TrainingExample
    from tasks.task import Split, Task, TrainableTask

__all__ = [
    "CircuitsError",
    "PairBatch",
    "PairSet",
    "PromptPair",
    "Split",
    "Task",
    "TrainableTask",
    "TrainingExample",
    "describe",
    "load",
    "names",
    "options",
]

_LAZY = {
    "TrainingExample": "tasks.pairs",
    "PairBatch": "tasks.pairs",
    "PairSet": "tasks.pairs",
    "PromptPair": "tasks.pairs",
    "Split": "tasks.task",
    "Task": "tasks.task",
    "TrainableTask": "tasks.task",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
