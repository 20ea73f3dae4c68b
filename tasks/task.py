"""What a task is: a name, a metric, and prompt pairs for a given tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from transformers import PreTrainedTokenizerBase

from tasks.pairs import PairSet, TrainingExample
from tasks.text.salience import AnnotatedArticle

Split = Literal["train", "validation", "test", "all"]
"""A part of a task's data; "all" is every row of a task that reads its rows from a file."""


@runtime_checkable
class Task(Protocol):
    """Makes prompt pairs. The same arguments give the same pairs; train, validation and test
    share no example.
    """

    @property
    def name(self) -> str:
        """The name that `tasks.load` knows the task by."""
        ...

    @property
    def metric(self) -> str:
        """The metric that the task is usually read by (a name from `circuits.metrics`)."""
        ...

    def pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> PairSet:
        """`n` clean/corrupted pairs. `context` is the model's window: what exceeds it is refused,
        with the row named. A task that reads rows also takes `n=None`: all of the split.
        """
        ...


@runtime_checkable
class TrainableTask(Task, Protocol):
    """A task that a model can also be fine-tuned on."""

    def examples(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> list[TrainingExample]:
        """`n` prompts with their targets, ready for a loss on the target tokens only."""
        ...


@runtime_checkable
class FileTask(Task, Protocol):
    """A task whose prompts are read from local files."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the task reads now; none if it reads from elsewhere."""
        ...


@runtime_checkable
class ArticleTask(Task, Protocol):
    """A task about articles, which can be shown with the sentences that their summaries need."""

    def annotate(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> list[AnnotatedArticle]:
        """The articles of `pairs` (same arguments), the corrupted sentences marked."""
        ...
