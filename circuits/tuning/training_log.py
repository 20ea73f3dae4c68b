"""`training_log.json`: losses and accuracies of a fine-tuning run, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from circuits.runtime.result_file import ResultFile


@dataclass(frozen=True)
class ValidationStep:
    """How well the model did on the validation examples after a step.

    step: 0 is the base model, before training.
    loss: nats a target token.
    token_accuracy: share of target tokens that were the model's first choice.
    """

    step: int
    loss: float
    token_accuracy: float


@dataclass(frozen=True)
class TrainingStep:
    """How well the model did on the batch of a training step, before the step changed it.

    learning_rate: the rate that the step used. Other fields: as for `ValidationStep`.
    """

    step: int
    loss: float
    token_accuracy: float
    learning_rate: float


class TrainingLog(ResultFile):
    """The log of a fine-tuning run, so far.

    steps: every training step. validation: from step 0 on; empty without validation examples.
    seconds: spent training and validating, over all the processes that worked on the run.
    finished: whether the last step is done.
    """

    KIND: ClassVar[str] = "training-log"

    steps: tuple[TrainingStep, ...] = ()
    validation: tuple[ValidationStep, ...] = ()
    stopped_early: bool = False
    seconds: float = 0.0
    finished: bool = False

    @property
    def best(self) -> ValidationStep | None:
        """The lowest validation loss, the first of equals; None without validation examples."""
        return min(self.validation, key=lambda entry: entry.loss, default=None)
