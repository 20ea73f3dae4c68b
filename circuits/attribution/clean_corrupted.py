"""The mean of the gradients at the two ends of the path: the clean and the corrupted run.

Source: `clean-corrupted` of Hanna, Pezzelle & Belinkov (2024), "Have Faith in Faithfulness": EAP-IG
without the points between; in numerical terms the trapezoidal rule with one panel. Cost: two
forward and backward passes and two forwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from circuits.attribution.method import GradientMethod
from circuits.attribution.path import PathScores, along_path
from circuits.attribution.quadrature import ENDS
from circuits.metrics import Metric
from circuits.models import HookedModel
from tasks.pairs import PairBatch


@dataclass(frozen=True)
class CleanCorrupted(GradientMethod):
    """Half the gradient at the clean run and half at the corrupted one."""

    name: ClassVar[str] = "clean-corrupted"

    def scores(
        self,
        model: HookedModel,
        batch: PairBatch,
        metric: Metric,
        progress: bool = False,  # noqa: ARG002 - two passes
    ) -> PathScores:
        """Scores of every edge for every example; units of the metric."""
        return along_path(model, batch, metric, ENDS)
