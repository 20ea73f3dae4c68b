"""A job whose memory and time can be told: what is done, by which cost model, on which shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from circuits.errors import CircuitsError
from circuits.options.choices import Quantisation
from circuits.options.tuning import StepOptions
from circuits.planning.passes import Shape, TracedPasses, Workload
from circuits.planning.sizes import Sizes

ADAM = 2  # moments of each weight that is trained

Phases = dict[str, dict[str, int]]
Work = tuple[Workload, ...]
"""What is done one after the other. Each part takes as long as what bounds it."""


@dataclass(frozen=True)
class Job:
    """What is to be done: on `n` pairs, in batches of a shape.

    cost: of what is done; `circuits.attribution.cost_of` gives it by name.
    steps: points on the path; of a mask, epochs; of finetune and lora, optimizer steps, which then
        say how long it takes and not `n`. None takes what the method does unless told.
    recompute: whether layers are run again in backward passes.
    quantize: how the weights of layers are kept; None keeps them in the shape's dtype.
    step: how a step of training is run; the shape's batch is the examples of a step.
    """

    shape: Shape
    cost: CostModel
    steps: int | None = None
    n: int = 1
    recompute: bool = False
    quantize: Quantisation | None = None
    step: StepOptions = field(default_factory=StepOptions)

    def __post_init__(self) -> None:
        shape = self.shape
        if min(self.n, shape.batch, shape.length, shape.answer_positions) < 1:
            raise CircuitsError(f"{self}: every number must be at least 1")
        if shape.answer_positions > shape.length:
            raise CircuitsError(
                f"{shape.answer_positions} answer tokens in prompts of {shape.length} tokens"
            )
        if not 0 <= shape.shared <= shape.length - shape.answer_positions:
            raise CircuitsError(
                f"{shape.shared} shared positions of {shape.length}, {shape.answer_positions} "
                "of them read: what is read is never shared"
            )
        if self.steps is not None and not self.cost.counted:
            raise CircuitsError(f"{self.cost.name} takes no number of steps")
        if self.steps is not None and self.steps < 1:
            raise CircuitsError(f"steps={self.steps}: it must be at least 1")
        if self.cost.trains and self.quantize is not None:
            raise CircuitsError(f"{self.cost.name} trains plain weights; leave quantize out")
        if not self.cost.trains and self.step != StepOptions():
            raise CircuitsError(
                f"{self.cost.name} trains nothing; leave accumulation, gradient_checkpointing and "
                "bf16 out"
            )
        if self.recompute:
            self.cost.require_recomputable()
        if not self.cost.splits:
            object.__setattr__(self, "shape", replace(shape, shared=0))
        if self.cost.trains and shape.dtype != torch.float32:
            raise CircuitsError(f"{self.cost.name} trains in float32; leave the dtype out")

    @property
    def passes(self) -> int:
        """Forward and backward passes: of a batch, or of all training."""
        return self.steps or self.cost.steps

    @property
    def multiplied_in(self) -> torch.dtype:
        """The dtype of most matrix products."""
        return torch.bfloat16 if self.step.bf16 else self.shape.dtype

    def of(self, batch: int) -> Job:
        """The same job in other batches.

        Args:
            batch: examples at a time.

        Returns:
            The job with that batch size.
        """
        return replace(self, shape=replace(self.shape, batch=batch))


@dataclass(frozen=True)
class Case:
    """A job on a model whose passes were counted."""

    job: Job
    sizes: Sizes
    traced: TracedPasses

    @property
    def lasting(self) -> dict[str, int]:
        """Bytes that are there throughout, part by part."""
        parts = {"weights": self.job.cost.models * self.traced.weights}
        moments = {"moments of the optimizer": ADAM * self.traced.trained}
        return parts | moments if self.job.cost.trains else parts


@dataclass(frozen=True)
class CostModel:
    """What something that is done keeps in memory, and what it computes.

    name: what is done. description: in a line, for help texts.
    phases: name -> part -> bytes, beside what is there throughout. work: of one batch.
    steps: where nobody says. counted: whether the user says how many.
    trains: "weights", "lora" or None.
    splits: whether what prompts share is run once. tokens: at a time; None takes the usual number.
    models: how many are loaded. recomputes: whether it has backward passes that may run layers
    again. alone: whether no worker can take a part of it.
    """

    name: str
    description: str
    phases: Callable[[Case], Phases]
    work: Callable[[Case], Work]
    steps: int = 1
    counted: bool = False
    trains: str | None = None
    splits: bool = False
    tokens: int | None = None
    models: int = 1
    recomputes: bool = False
    alone: bool = False

    def require_recomputable(self) -> None:
        """Refuse to recompute where there is nothing to.

        Raises:
            CircuitsError: what this method runs keeps nothing for a backward pass.
        """
        if not self.recomputes:
            raise CircuitsError(
                f"{self.name} keeps nothing for a backward pass that could be recomputed; leave "
                "recompute out"
            )
