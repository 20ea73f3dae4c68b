"""EAP with integrated gradients (EAP-IG, inputs): the gradient averaged from corrupted to clean.

Source: Hanna, Pezzelle & Belinkov (2024), "Have Faith in Faithfulness": the embedding
moves in a straight line from the corrupted to the clean prompt's. Cost: `steps` forward and
backward passes and two forwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from circuits.attribution.engine import BatchScores, edge_scores
from circuits.attribution.method import GradientMethod
from circuits.attribution.quadrature import rule
from circuits.metrics import Metric
from circuits.models import HookedModel
from tasks.pairs import PairBatch


@dataclass(frozen=True)
class EAPIG(GradientMethod):
    """steps: points on the path. quadrature: where they lie; "left" is the paper's."""

    name: ClassVar[str] = "eap-ig"
    steps: int = 5
    quadrature: str = "midpoint"

    def __post_init__(self) -> None:
        rule(self.quadrature, self.steps)

    def scores(
        self,
        model: HookedModel,
        batch: PairBatch,
        metric: Metric,
        progress: bool = False,  # noqa: ARG002 - few passes
    ) -> BatchScores:
        """Scores of every edge for every example; units of the metric."""
        return edge_scores(model, batch, metric, rule(self.quadrature, self.steps))
