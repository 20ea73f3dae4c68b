"""Edge attribution patching (EAP): one gradient, at the clean run.

Source: Syed, Rager & Conmy (2023), "Attribution Patching Outperforms Automated Circuit Discovery".
Cost: three forward passes and one backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from circuits.attribution.method import GradientMethod
from circuits.attribution.path import PathScores, along_path
from circuits.attribution.quadrature import CLEAN
from circuits.metrics import Metric
from circuits.models import HookedModel
from tasks.pairs import PairBatch


@dataclass(frozen=True)
class EAP(GradientMethod):
    """The gradient at the clean run, times the difference of the sources."""

    name: ClassVar[str] = "eap"

    def scores(
        self,
        model: HookedModel,
        batch: PairBatch,
        metric: Metric,
        progress: bool = False,  # noqa: ARG002 - few passes
    ) -> PathScores:
        """Scores of every edge for every example; units of the metric."""
        return along_path(model, batch, metric, CLEAN)
