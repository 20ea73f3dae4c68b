"""`lora.json`: what a comparison of LoRA targets found.

Nothing here presumes which condition is best: every run is kept, and the spread over seeds stands
beside each mean.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from circuits.importance import LayerImportance
from circuits.runtime.display import Plotted
from circuits.runtime.result_file import ResultFile
from circuits.tuning.lora_targets import LoraTarget
from circuits.tuning.rouge import SummaryMeans, SummaryScores

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LoraRun:
    """One condition with one seed.

    condition: the name of its `LoraTarget`.
    layers: those with an adapter. rank: the adapter's.
    parameters: trained ones, counted.
    seconds: spent training.
    scores: means over the held-out examples.
    adapter: the PEFT folder, relative to the comparison's own.
    """

    condition: str
    seed: int
    layers: tuple[int, ...]
    rank: int
    parameters: int
    seconds: float
    scores: SummaryMeans
    adapter: str


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
    """

    KIND: ClassVar[str] = "lora-comparison"

    targets: tuple[LoraTarget, ...]
    runs: tuple[LoraRun, ...]
    base: SummaryMeans
    budget: int
    steps: int
    held_out: int
    importance: tuple[LayerImportance, ...] = ()

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
            Columns condition, seed, layers, parameters, loss (held out, nats a token), rougeL.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "condition": run.condition,
                "seed": run.seed,
                "layers": ", ".join(map(str, run.layers)),
                "parameters": run.parameters,
                "loss": run.scores.loss,
                "rougeL": run.scores.rougeL,
            }
            for run in self.runs
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every condition was run with."""
        return tuple(run.seed for run in self.of(self.targets[0].name))

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
