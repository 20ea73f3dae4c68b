"""What we ask a model: clean and corrupted prompt pairs, and articles to summarise.

`load("table", path="pairs.csv")` makes a task; its `pairs(tokenizer, n)` makes a `PairSet`. Nothing
heavy is imported until it is asked for.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import CircuitsError, InputError, TooFewError
from tasks.namesake import refuse_namesake
from tasks.registry import describe, load, names, options

if TYPE_CHECKING:
    from tasks.named_splits import Split
    from tasks.pairs import PairBatch, PairSet, PromptPair, TrainingExample
    from tasks.task import Task, TrainableTask

__all__ = [
    "CircuitsError",
    "InputError",
    "PairBatch",
    "PairSet",
    "PromptPair",
    "Split",
    "Task",
    "TooFewError",
    "TrainableTask",
    "TrainingExample",
    "describe",
    "load",
    "names",
    "options",
]

refuse_namesake(Path(__file__).parent.parent)

_LAZY = {
    "TrainingExample": "tasks.pairs",
    "PairBatch": "tasks.pairs",
    "PairSet": "tasks.pairs",
    "PromptPair": "tasks.pairs",
    "Split": "tasks.task",
    "Task": "tasks.task",
    "TrainableTask": "tasks.task",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
