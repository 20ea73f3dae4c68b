"""How a model is fine-tuned: every number that a run depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from circuits.errors import CircuitsError


@dataclass(frozen=True)
class FinetuneSettings:
    """AdamW with a linear warm-up and cosine decay to zero.

    steps: optimizer steps; the most, when early stopping is on.
    learning_rate: the peak, reached after `warmup_steps`.
    weight_decay: of matrices only; norms and biases are not decayed.
    clip: the largest gradient norm, or None.
    seed: order of the examples, and dropout; below 2**31.
    checkpoint_steps: steps after which the model is saved; the last step always is.
    validate_every: steps between validation losses, where there is a validation set.
    patience: stop after this many validations in a row without a new lowest loss, or None. The
        model of the lowest is kept as a checkpoint.
    save_state_every: steps between saves of the training state; no effect on the outcome.
    """

    steps: int = 300
    learning_rate: float = 5e-5
    warmup_steps: int = 10
    batch_size: int = 32
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float | None = 1.0
    seed: int = 0
    checkpoint_steps: tuple[int, ...] = ()
    validate_every: int = 50
    patience: int | None = None
    save_state_every: int = 50

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "save_state_every"):
            if getattr(self, name) < 1:
                raise CircuitsError(f"{name} {getattr(self, name)}: it must be at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise CircuitsError(f"learning_rate {self.learning_rate}: it must be above 0")
        if not 0 <= self.warmup_steps <= self.steps:
            raise CircuitsError(
                f"warmup_steps {self.warmup_steps}: it must lie between 0 and steps ({self.steps})"
            )
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise CircuitsError(f"weight_decay {self.weight_decay}: it must be 0 or more")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise CircuitsError(f"betas {self.betas}: two numbers of at least 0 and below 1")
        if self.clip is not None and not self.clip > 0:
            raise CircuitsError(f"clip {self.clip}: it must be above 0, or None for no clipping")
        if not 0 <= self.seed < 2**31:
            raise CircuitsError(f"seed {self.seed}: it must lie between 0 and 2**31 - 1")
        if self.patience is not None and self.patience < 1:
            raise CircuitsError(f"patience {self.patience}: it must be at least 1, or None")
        outside = [step for step in self.checkpoint_steps if not 1 <= step <= self.steps]
        if outside:
            raise CircuitsError(
                f"checkpoint_steps {outside}: a checkpoint comes after step 1 at the earliest and "
                f"after step {self.steps} at the latest; step 0 is the base model itself"
            )
        object.__setattr__(self, "checkpoint_steps", tuple(sorted(set(self.checkpoint_steps))))
        object.__setattr__(self, "betas", tuple(self.betas))

    def rate(self, step: int) -> float:
        """Learning rate of step 1 ... `steps`."""
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        done = (step - 1 - self.warmup_steps) / (self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
