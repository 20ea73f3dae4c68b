"""`lora.json`: what a comparison of LoRA targets found.

Nothing here presumes which condition is best: every run is kept, the spread over seeds stands
beside each mean, and every difference has an interval over seeds and examples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from circuits.errors import CircuitsError
from circuits.importance import LayerImportance
from circuits.runtime.display import Plotted
from circuits.runtime.result_file import MaybeUndefined, ResultFile
from circuits.tuning.lora_differences import Difference, ScoreName
from circuits.tuning.lora_targets import LoraTarget
from circuits.tuning.rouge import SummaryMeans, SummaryScores
from circuits.tuning.training_log import ValidationStep

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LoraRun:
    """One condition with one seed.

    condition: the name of its `LoraTarget`. draw: which of the draws of layers with this seed.
    layers: those that are trained. ranks: the adapter's, by the name of each map in the model; none
        where all weights are trained.
    heads: of a condition by head, those that are trained, as nodes (`a0.h1<q>` for its queries,
        `a0.h1` for what it writes); of their maps nothing else is.
    parameters: trained ones, counted in the model.
    learning_rate: its peak. seconds: spent training.
    scores: means over the held-out examples. fitted: loss on as many training examples, in nats a
        target token, after the last step.
    validation: losses on the validation examples while it was trained; none without those.
    adapter: the PEFT folder, or that of the whole model, relative to the comparison's own.
    """

    condition: str
    seed: int
    layers: tuple[int, ...]
    ranks: dict[str, int]
    parameters: int
    learning_rate: float
    seconds: float
    scores: SummaryMeans
    fitted: float
    adapter: str
    validation: tuple[ValidationStep, ...] = ()
    draw: int = 0
    heads: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """Held-out loss less the loss on training examples, in nats a target token."""
        return self.scores.loss - self.fitted

    def steps_to(self, loss: float) -> int | None:
        """The first step after which the validation loss was no larger; None where it never was.

        Args:
            loss: in nats a target token.

        Returns:
            A step at which it was measured.
        """
        return next((entry.step for entry in self.validation if entry.loss <= loss), None)


@dataclass(frozen=True)
class RateTrial:
    """A learning rate that was tried. loss: on the validation examples after the last step, in nats
    a target token; NaN where it was not finite.
    """

    rate: float
    loss: MaybeUndefined


@dataclass(frozen=True)
class RateChoice:
    """How a condition's learning rate was tuned.

    condition: its name. trials: one for each rate of the grid, in order. steps: of each trial.
    seed: of all trials; no run has it.
    """

    condition: str
    trials: tuple[RateTrial, ...]
    steps: int
    seed: int

    @property
    def rate(self) -> float:
        """The rate of the lowest loss, the smaller of equals."""
        finite = [trial for trial in self.trials if math.isfinite(trial.loss)]
        if not finite:
            raise CircuitsError(
                f"condition {self.condition!r}: the loss is not finite at any learning rate of "
                f"{[trial.rate for trial in self.trials]}; give lower ones"
            )
        return min(finite, key=lambda trial: (trial.loss, trial.rate)).rate

    @property
    def at_edge(self) -> bool:
        """Whether the rate is the least or the largest of the grid: others may be better."""
        return len(self.trials) > 1 and self.rate in (self.trials[0].rate, self.trials[-1].rate)


@dataclass(frozen=True)
class Spread:
    """A figure over seeds: mean, standard deviation (n - 1; NaN for a single seed) and range.

    It is a spread over seeds, not an interval over examples.
    """

    mean: float
    sd: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one value or more."""
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), sd, min(values), max(values))


class LoraComparison(Plotted, ResultFile):
    """All runs of a comparison.

    targets: the conditions. runs: by condition, then by seed.
    base: scores of the base model, untrained.
    budget: parameters of a LoRA of the stated rank on all layers, which every condition aims at.
    steps: optimizer steps of each run. held_out: number of held-out examples.
    importance: of each layer, by every criterion that was computed, for tables and figures.
    rates: how each condition's learning rate was tuned, where it was.
    differences: of every condition against those after it, and against the untrained base.
    """

    KIND: ClassVar[str] = "lora-comparison"

    targets: tuple[LoraTarget, ...]
    runs: tuple[LoraRun, ...]
    base: SummaryMeans
    budget: int
    steps: int
    held_out: int
    importance: tuple[LayerImportance, ...] = ()
    rates: tuple[RateChoice, ...] = ()
    differences: tuple[Difference, ...] = ()

    def _facts(self) -> dict[str, str]:
        return {
            "conditions": ", ".join(target.name for target in self.targets),
            "runs": f"{len(self.seeds)} seeds of {self.steps} steps",
            "parameters": f"{self.budget:,} aimed at",
            "held-out examples": str(self.held_out),
        }

    def to_frame(self) -> pd.DataFrame:
        """Every run, a row each.

        Returns:
            Columns condition, seed, draw, layers, heads, parameters, learning_rate, loss (held
            out, nats a token), gap (to the loss on training examples), rougeL, seconds.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "condition": run.condition,
                "seed": run.seed,
                "draw": run.draw,
                "layers": ", ".join(map(str, run.layers)),
                "heads": ", ".join(run.heads),
                "parameters": run.parameters,
                "learning_rate": run.learning_rate,
                "loss": run.scores.loss,
                "gap": run.gap,
                "rougeL": run.scores.rougeL,
                "seconds": run.seconds,
            }
            for run in self.runs
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every condition was run with."""
        return tuple(dict.fromkeys(run.seed for run in self.of(self.targets[0].name)))

    @property
    def goal(self) -> float | None:
        """The validation loss that `steps_to_goal` counts to, in nats a target token: what the
        condition `standard` (or the first, without it) ends with on average; None without
        validation examples.
        """
        names = [target.name for target in self.targets]
        runs = self.of("standard" if "standard" in names else names[0])
        final_losses = [run.validation[-1].loss for run in runs if run.validation]
        return statistics.fmean(final_losses) if final_losses else None

    def steps_to_goal(self, condition: str) -> tuple[int | None, ...]:
        """The steps after which each run of a condition came to `goal`.

        Args:
            condition: its name.

        Returns:
            For each run a step, as fine as validation losses were measured; None where it did not.
        """
        goal = self.goal
        return tuple(None if goal is None else run.steps_to(goal) for run in self.of(condition))

    def difference(self, first: str, second: str, score: ScoreName = "ROUGE-L") -> Difference:
        """How far two conditions lie apart.

        Args:
            first: a condition.
            second: one that is listed after it, or "none".
            score: which score.

        Returns:
            The difference, the first less the second.

        Raises:
            CircuitsError: where they were not compared.
        """
        for difference in self.differences:
            if (difference.first, difference.second, difference.score) == (first, second, score):
                return difference
        raise CircuitsError(f"no difference of {first!r} and {second!r}: name them in their order")

    def of(self, condition: str) -> tuple[LoraRun, ...]:
        """The runs of one condition, by seed.

        Args:
            condition: its name.

        Returns:
            The runs.
        """
        return tuple(run for run in self.runs if run.condition == condition)

    def layers(self, condition: str) -> tuple[int, ...]:
        """The layers that any run of a condition adapted, in order.

        Args:
            condition: its name.

        Returns:
            Layers, in order.
        """
        return tuple(sorted({layer for run in self.of(condition) for layer in run.layers}))

    def parameters(self, condition: str) -> float:
        """Trained parameters of a condition, the mean over its seeds.

        Args:
            condition: its name.

        Returns:
            Their number.
        """
        return statistics.fmean(run.parameters for run in self.of(condition))

    def spread(self, condition: str, score: Callable[[SummaryMeans], float]) -> Spread:
        """One score of a condition over its seeds.

        Args:
            condition: the name of a target.
            score: which score, as in `lambda means: means.rougeL`.

        Returns:
            Its mean, standard deviation, lowest and highest value.
        """
        return Spread.of([score(run.scores) for run in self.of(condition)])


class BaseResult(ResultFile):
    """`base.json`: the base model on the held-out examples, example by example."""

    KIND: ClassVar[str] = "lora-base"

    scores: SummaryScores


class RunResult(ResultFile):
    """`result.json`: one run, and its scores example by example."""

    KIND: ClassVar[str] = "lora-run"

    run: LoraRun
    scores: SummaryScores


class TrialResult(ResultFile):
    """`result.json`: a learning rate that was tried, for so many steps with that seed."""

    KIND: ClassVar[str] = "lora-trial"

    trial: RateTrial
    steps: int
    seed: int
