"""Random scores: the control that every other method is compared with.

Each edge's score is drawn from a standard normal distribution, once for all examples; the model is
run on both prompts for the metric's sake only. Sign and size mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from circuits.attribution.batch_scores import BatchScores
from circuits.attribution.method import MetricFree, run_clean_corrupted
from circuits.errors import CircuitsError
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.planning.costs import ends_phases, ends_work
from circuits.planning.jobs import CostModel
from tasks.pairs import PairBatch


@dataclass(frozen=True)
class Random(MetricFree):
    """seed: equal seeds give equal scores, whatever the examples."""

    name: ClassVar[str] = "random"
    cost: ClassVar[CostModel] = CostModel(
        "random", "a control: scores drawn at random", ends_phases, ends_work
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise CircuitsError(f"seed={self.seed}: it must be at least 0")

    def scores(
        self,
        model: HookedModel,
        batch: PairBatch,
        metric: Metric,
        progress: bool = False,  # noqa: ARG002 - two passes
    ) -> BatchScores:
        """The same random matrix for every example."""
        draw = torch.Generator().manual_seed(self.seed)
        matrix = torch.randn(model.layout.shape, generator=draw) * model.layout.mask
        scores = matrix.expand(len(batch), *matrix.shape).to(model.device)
        return BatchScores(scores, *run_clean_corrupted(model, batch, metric))
