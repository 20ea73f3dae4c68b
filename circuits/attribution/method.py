"""What an attribution method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.batch_scores import BatchScores, PathSamples
from circuits.attribution.engine import edge_samples
from circuits.attribution.quadrature import Rule
from circuits.attribution.refinement import ScoreFunction
from circuits.errors import CircuitsError
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.models.backward.rules import PLAIN, BackwardRules
from circuits.models.hooks import Hooks
from circuits.planning import CostModel
from tasks.pairs import PairBatch, PairSet


@runtime_checkable
class Method(Protocol):
    """An attribution method: a frozen dataclass of its hyper-parameters."""

    @property
    def name(self) -> str:
        """The name it is asked for by."""
        ...

    @property
    def cost(self) -> CostModel:
        """What it keeps in memory and computes, and what it is in a line."""
        ...

    def validate(self, model: HookedModel, pairs: PairSet, metric: Metric, /) -> None:
        """Refuse, before any work, what this method cannot do.

        Args:
            model: to be scored.
            pairs: to be scored on.
            metric: to be scored by.

        Raises:
            CircuitsError: with the reason, and what to do.
        """
        ...

    def scores(
        self, model: HookedModel, batch: PairBatch, metric: Metric, progress: bool = False
    ) -> BatchScores:
        """Scores of every edge for every example of a batch.

        Args:
            model: to be scored.
            batch: of prompt pairs of equal length.
            metric: to be scored by; scores of gradients have its units.
            progress: show a bar, where one batch is long work.

        Returns:
            A number for each example, source and reader.
        """
        ...


class GradientMethod(ABC):
    """A method that differentiates the metric; its scores have the metric's units.

    Its `scores` take `recompute` too: whether layers are run again in backward passes.
    """

    name: ClassVar[str]
    cost: ClassVar[CostModel]

    @property
    @abstractmethod
    def quadrature_rule(self) -> Rule:
        """Where on the path gradients are taken; the first of them, where the rest depend."""

    @abstractmethod
    def scores(
        self,
        model: HookedModel,
        batch: PairBatch,
        metric: Metric,
        progress: bool = False,
        *,
        recompute: bool = False,
    ) -> BatchScores:
        """Scores of every edge for every example of a batch."""

    def validate(self, _: HookedModel, __: PairSet, metric: Metric) -> None:
        """Refuse a metric that has no gradient, at all or where this method takes it."""
        if not metric.differentiable:
            raise CircuitsError(
                f"{metric.name} has no gradient; score with another metric, or by method exact"
            )
        if metric.needs_reference and set(self.quadrature_rule.nodes) == {1.0}:
            raise CircuitsError(
                f"{metric.name} is at its best on the clean run, so its gradient there is 0 and "
                f"{self.name} would give rounding noise; take eap-ig"
            )


class PathMethod(GradientMethod):
    """A method that averages gradients on the path from corrupted to clean."""

    @property
    def rules(self) -> BackwardRules:
        """What its backward passes follow: the gradient itself, unless a method says otherwise."""
        return PLAIN

    def integrate(self, score_at: ScoreFunction, batch: PairBatch) -> BatchScores:
        """Scores of edges or of nodes, integrated by this method's rule."""
        return score_at(batch, self.quadrature_rule).scores()

    def scores(
        self,
        model: HookedModel,
        batch: PairBatch,
        metric: Metric,
        progress: bool = False,  # noqa: ARG002 - few passes
        *,
        recompute: bool = False,
    ) -> BatchScores:
        """Scores of every edge for every example."""
        score_at = partial(_edges, model, metric, recompute=recompute, rules=self.rules)
        return self.integrate(score_at, batch)


def _edges(
    model: HookedModel,
    metric: Metric,
    batch: PairBatch,
    rule: Rule,
    *,
    recompute: bool,
    rules: BackwardRules,
) -> PathSamples:
    return edge_samples(model, batch, metric, rule, recompute=recompute, rules=rules)


class MetricFree:
    """A method that takes every metric."""

    def validate(self, _: HookedModel, __: PairSet, ___: Metric) -> None:
        """Nothing to refuse."""


@torch.no_grad()
def run_clean_corrupted(
    model: HookedModel, batch: PairBatch, metric: Metric, on_clean: Hooks | None = None
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The metric of the clean and of the corrupted run; `on_clean` hooks see the former."""
    reference = model.logits(batch.clean, batch, on_clean)
    corrupted = model.logits(batch.corrupted, batch)
    return metric(reference, batch, reference), metric(corrupted, batch, reference)
