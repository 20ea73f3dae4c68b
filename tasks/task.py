"""What a task is: a name, a metric, and prompt pairs for a given tokenizer."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from transformers import PreTrainedTokenizerBase

from tasks.pairs import Example, PairSet

Split = Literal["train", "validation", "test"]


class Task(Protocol):
    """Makes prompt pairs. The same arguments give the same pairs; splits share no example."""

    name: str
    metric: str

    def pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        *,
        split: Split = "train",
        seed: int = 0,
        context: int | None = None,
    ) -> PairSet:
        """`n` clean/corrupted pairs. `context` is the model's window: what exceeds it is refused,
        with the row named.
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
        context: int | None = None,
    ) -> list[Example]:
        """`n` prompts with their targets, ready for a loss on the target tokens only."""
        ...
