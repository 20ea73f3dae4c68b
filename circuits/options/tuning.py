"""How a model is trained, and which layers a LoRA adapts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, get_args

from circuits.errors import CircuitsError
from circuits.options.choices import AdapterPart, Count, LogFormat, LoraCondition, Positive
from circuits.options.declared import Options, Sensible, Within

WARMUP_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class AdamWOptions(Options):
    """AdamW with a linear warm-up and cosine decay to zero.

    Attributes:
        steps: Optimizer steps; fewer where training stops early.
        learning_rate: Peak learning rate, reached after the warm-up.
        warmup_steps: Steps of warm-up (default: 10, or all steps if they are fewer).
        batch_size: Examples a step.
        weight_decay: Weight decay of matrices; norms and biases are not decayed.
        betas: AdamW's betas.
        clip: The largest gradient norm; None clips nothing.
    """

    steps: Positive = 300
    learning_rate: Annotated[float, Within(above=0, below=math.inf)] = 5e-5
    warmup_steps: int | None = None
    batch_size: Positive = 32
    weight_decay: Annotated[float, Within(at_least=0, below=math.inf)] = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: Annotated[float, Within(above=0)] | None = 1.0


@dataclass(frozen=True, kw_only=True)
class StepOptions(Options):
    """How a step of training is run: what it costs, and not what it learns.

    Attributes:
        accumulation: Pieces that a step's batch is run in, one after the other: less memory, the
            same step.
        gradient_checkpointing: Run layers again in the backward pass: less memory, more time, the
            same step.
        bf16: Multiply in bfloat16 (mixed precision); weights, loss and updates stay in float32.
    """

    accumulation: Positive = 1
    gradient_checkpointing: bool = False
    bf16: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(StepOptions, AdamWOptions):
    """A training: its optimizer, and how its steps are run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_steps is None:
            object.__setattr__(self, "warmup_steps", min(WARMUP_STEPS, self.steps))
        elif not 0 <= self.warmup_steps <= self.steps:
            raise CircuitsError(
                f"warmup_steps {self.warmup_steps}: it must lie between 0 and steps ({self.steps})"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise CircuitsError(f"betas {self.betas}: two numbers of at least 0 and below 1")
        object.__setattr__(self, "betas", tuple(self.betas))

    def rate(self, step: int) -> float:
        """Learning rate of a step.

        Args:
            step: from 1 to `steps`.

        Returns:
            The rate.
        """
        warmup = self.warmup_steps or 0
        if step <= warmup:
            return self.learning_rate * step / warmup
        progress = (step - 1 - warmup) / (self.steps - warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(TrainingOptions):
    """Training that leaves checkpoints.

    Attributes:
        checkpoint_steps: Steps after which the model is saved, as in 20,50; the last step always
            is.
        log_checkpoints: Also save after this number of steps, evenly spaced by their logarithm from
            the first step to the last (default: none).
        validate_every: Steps between validation losses, where there is a validation set.
        patience: Stop after so many validations in a row without a new lowest loss, and keep the
            model of the lowest loss too (default: train to the end).
        save_state_every: Steps between saves of the training state; no effect on the outcome.
        log_to: Where losses are written too: csv, a table training_log.csv; tensorboard, a folder
            of that name (with the extra tensorboard).
    """

    checkpoint_steps: tuple[int, ...] = ()
    log_checkpoints: Positive | None = None
    validate_every: Positive = 50
    patience: Positive | None = None
    save_state_every: Positive = 50
    log_to: tuple[LogFormat, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        outside = [step for step in self.checkpoint_steps if not 1 <= step <= self.steps]
        if outside:
            raise CircuitsError(
                f"checkpoint_steps {outside}: a checkpoint comes after step 1 at the earliest and "
                f"after step {self.steps} at the latest; step 0 is the base model itself"
            )
        object.__setattr__(self, "checkpoint_steps", tuple(sorted(set(self.checkpoint_steps))))
        object.__setattr__(self, "log_to", tuple(self.log_to))

    @property
    def kept_steps(self) -> frozenset[int]:
        """Steps after which a checkpoint stays, besides the last one and the best."""
        spaced, points = self.log_checkpoints or 0, range(self.log_checkpoints or 0)
        steps = {round(self.steps ** (point / max(1, spaced - 1))) for point in points}
        return frozenset(steps) | frozenset(self.checkpoint_steps)


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(CheckpointOptions):
    """Every number that a fine-tuning depends on.

    Attributes:
        seed: Order of the examples, and dropout; below 2**31.
    """

    seed: Annotated[int, Within(at_least=0, below=2**31)] = 0


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(CheckpointOptions):
    """A fine-tuning on a task's own examples; its seed is that of the whole.

    Attributes:
        examples: Training examples.
        validation: Validation examples.
    """

    examples: Positive = 1000
    validation: Positive = 100


@dataclass(frozen=True, kw_only=True)
class AdapterOptions(Options):
    """How an adapter is made, wherever it sits.

    Attributes:
        rslora: Scale by the square root of the rank (rank-stabilised LoRA), so that wide adapters
            learn as fast as narrow ones; equal to LoRA at rank 8.
        dora: Learn each output's magnitude apart from its direction (DoRA); the magnitudes count as
            parameters.
        dropout: Share of the adapter's inputs that is dropped in training.
    """

    rslora: bool = False
    dora: bool = False
    dropout: Annotated[float, Within(at_least=0, below=1)] = 0.0


@dataclass(frozen=True, kw_only=True)
class LoraOptions(AdapterOptions):
    """Which layers a LoRA adapts, and how widely.

    Attributes:
        layers: How many layers (default: half of them).
        rank: Rank of the adapter; in a comparison, of the one on all layers, whose number of
            parameters the others equal.
    """

    layers: Positive | None = None
    rank: Positive = 8


TriedRate = Annotated[
    float,
    Within(above=0, below=math.inf),
    Sensible(
        0.001, 0.03, "results/lora.md#how-well-does-each-condition-learn", "on the embedded model"
    ),
]


@dataclass(frozen=True, kw_only=True)
class RateGrid(Options):
    """How each condition's learning rate is tuned: on validation examples, by the last loss.

    Attributes:
        learning_rates: The grid; none gives every condition the same rate, `learning_rate`.
        tuning_steps: Optimizer steps of each trial (default: those of a run), with a schedule of
            their own and a seed that no run has.
    """

    learning_rates: tuple[TriedRate, ...] = ()
    tuning_steps: Positive | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "learning_rates", tuple(sorted(set(self.learning_rates))))


@dataclass(frozen=True, kw_only=True)
class LoraComparisonOptions(LoraOptions, TrainingOptions, RateGrid):
    """A comparison of what a LoRA adapts, on a task's own examples.

    Attributes:
        conditions: What is compared, as docs/fine-tuning.md describes; each is set against those
            after it, and all against the untrained base.
        examples: Training examples.
        held_out: Held-out examples that each run is judged on.
        validation: Validation examples, for the learning rate and the steps to a target loss; 0
            leaves both out.
        validate_every: Steps between validation losses.
        seeds: One run of each condition for each seed.
        draws: Random sets of layers, at least; one for each seed where those are more.
        circuits: Seeds whose LoRAs of every condition are scored, and their circuits and attention
            held against the last checkpoint's; 0 leaves that out.
    """

    conditions: tuple[LoraCondition, ...] = ("circuit", "random", "standard")
    examples: Positive = 1000
    held_out: Positive = 100
    validation: Count = 100
    validate_every: Positive = 50
    seeds: tuple[int, ...] = (0, 1)
    draws: Positive = 5
    circuits: Count = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.conditions or len(set(self.conditions)) != len(self.conditions):
            raise CircuitsError("conditions: one or more, no two alike")
        if self.learning_rates and not self.validation:
            raise CircuitsError("learning_rates: they are tuned on validation examples; give some")


PARTS: tuple[AdapterPart, ...] = get_args(AdapterPart)


@dataclass(frozen=True, kw_only=True)
class LoraProtocol(RateGrid):
    """What every condition of a comparison shares.

    Attributes:
        training: How each run is trained; its seed is replaced by each of `seeds`. Early stopping
            is refused, since every condition takes equal steps.
        seeds: One run of each condition for each seed.
        draws: Random sets of layers, at least; one for each seed where those are more.
        rank: Rank of the LoRA on all layers, which sets the number of parameters.
        adapter: How each adapter is made.
        parts: Which projections of a layer get an adapter.
        max_new_tokens: The longest a summary may get; None takes the length of the longest target.
        words: What ROUGE counts (`tasks.text.rouge`).
        tokenizer: A folder or hub id, where another tokenizer than the model's own is used.
    """

    training: FinetuneSettings
    seeds: tuple[int, ...] = LoraComparisonOptions.seeds
    draws: Positive = LoraComparisonOptions.draws
    rank: Positive = LoraOptions.rank
    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    parts: tuple[AdapterPart, ...] = PARTS
    max_new_tokens: int | None = None
    words: str = "auto"
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.patience is not None:
            raise CircuitsError(
                "patience: conditions take equal steps, so early stopping must be None"
            )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise CircuitsError("a comparison needs one seed or more, no two alike")

    def draws_of(self, seed: int, *, random: bool) -> int:
        """How often a condition is run with a seed: more than once only where layers are drawn.

        Args:
            seed: one of `seeds`.
            random: whether the condition draws its layers.

        Returns:
            So often that all seeds together make at least `draws` runs of a random condition.
        """
        seed_index, seeds = self.seeds.index(seed), len(self.seeds)
        return max(1, -(-(self.draws - seed_index) // seeds)) if random else 1
