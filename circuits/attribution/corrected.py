"""Methods that take one backward pass at the clean run, by rules that correct the gradient.

The score is what it is everywhere: (clean - corrupted) of the source, times what the backward pass
brings to the reader. Such a pass is no derivative along the path, so its scores do not add up to
the metric's difference and there is no estimate of their error.
"""

from __future__ import annotations

from abc import abstractmethod

from circuits.attribution.batch_scores import BatchScores
from circuits.attribution.method import PathMethod
from circuits.attribution.quadrature import CLEAN, Rule
from circuits.attribution.refinement import ScoreFunction
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.models.backward.rules import BackwardRules
from tasks.pairs import PairBatch, PairSet


class CorrectedMethod(PathMethod):
    """EAP, but for the rules of its backward pass."""

    @property
    @abstractmethod
    def rules(self) -> BackwardRules:
        """What the backward pass follows."""

    @property
    def quadrature_rule(self) -> Rule:
        """The clean end alone."""
        return CLEAN

    def validate(self, model: HookedModel, pairs: PairSet, metric: Metric) -> None:
        """Refuse what EAP refuses, and a model that a rule cannot be followed in."""
        super().validate(model, pairs, metric)
        self.rules.require(model)

    def integrate(self, score_at: ScoreFunction, batch: PairBatch) -> BatchScores:
        """Scores of edges or of nodes, without an estimate of their error."""
        path_scores = score_at(batch, CLEAN).scores()
        return BatchScores(path_scores.scores, path_scores.clean, path_scores.corrupted)
