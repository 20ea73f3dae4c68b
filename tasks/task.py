"""What a task is: a name, a metric, and prompt pairs for a given tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from transformers import PreTrainedTokenizerBase

from tasks.named_splits import Split
from tasks.pairs import PairSet, TrainingExample
from tasks.text.salience import AnnotatedArticle

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
        """Clean and corrupted prompts with their answers.

        Args:
            tokenizer: of the model that will read the prompts.
            n: how many pairs; a task that reads rows also takes None, for all of the split.
            split: "train", "validation" or "test", which share no example; "all" of a task that
                reads rows.
            seed: which pairs are drawn; a larger `n` with the same seed extends a smaller one.
            n_ctx: the model's context length in tokens; None checks nothing.

        Returns:
            The pairs.

        Raises:
            CircuitsError: for a row that cannot be used or exceeds `n_ctx`, by its name, and where
                there are fewer than `n`.
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
    ) -> Sequence[TrainingExample]:
        """Prompts with their targets, ready for a loss on the target tokens only.

        Args:
            tokenizer: of the model that will be trained.
            n: how many examples.
            split: as for `pairs`.
            seed: which examples are drawn.
            n_ctx: the model's context length in tokens; None checks nothing.

        Returns:
            The examples.
        """
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
        """The articles of `pairs`, with the corrupted sentences marked.

        Args:
            tokenizer: as for `pairs`.
            n: as for `pairs`.
            split: as for `pairs`.
            seed: as for `pairs`.
            n_ctx: as for `pairs`.

        Returns:
            An article for each pair, in the same order.
        """
        ...
