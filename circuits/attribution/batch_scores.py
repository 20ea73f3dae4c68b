"""Scores of one batch, as methods return them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attribution.calibration import calibrated_weights
from circuits.attribution.quadrature import Rule
from circuits.graph.provenance import QuadratureError


@dataclass(frozen=True)
class BatchScores:
    """Scores of one batch.

    scores: float32; for each example a matrix (source, reader), or one number a node.
    clean, corrupted: the metric on both prompts.
    """

    scores: Float[Tensor, "batch ..."]
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]


@dataclass(frozen=True)
class PathScores(BatchScores):
    """Scores integrated along the path from corrupted to clean, and how far to trust them.

    doubt: how far each score would move (or, of a calibrated rule, has moved) under calibrated
    weights for the same gradients (`calibration`), where that was looked at.
    stands_for: as how many columns of the scores each counts in the estimate; 0: not looked at.
    gradients: how many were taken.
    """

    doubt: Float[Tensor, "batch ..."]
    stands_for: Float[Tensor, " column"]
    gradients: Int[Tensor, " batch"]

    @property
    def error(self) -> Float[Tensor, " batch"]:
        """Estimated relative L1 error of each example's scores."""
        return relative_l1(self.doubt, self.scores, self.stands_for)


def relative_l1(
    doubt: Float[Tensor, "batch ... column"],
    scores: Float[Tensor, "batch ... column"],
    stands_for: Float[Tensor, " column"],
) -> Float[Tensor, " batch"]:
    """L1 norm of the doubt as a share of the scores', by batch row."""
    off, size = ((x.abs() * stands_for).flatten(1).sum(dim=1) for x in (doubt, scores))
    return off / size.clamp(min=torch.finfo(size.dtype).tiny)


def describe_error(
    path: Float[Tensor, "2 example"],
    doubt: Float[Tensor, "*unit column"],
    total: Float[Tensor, "*unit column"],
    stands_for: Float[Tensor, " column"],
) -> QuadratureError:
    """What a result says of its quadrature, from sums of `PathScores` over all examples.

    path: rows are each example's error and gradients.
    """
    errors, gradients = path.double()
    return QuadratureError(
        estimate=float(relative_l1(doubt[None], total[None], stands_for.double())),
        worst=float(errors.max()),
        gradients=float(gradients.mean()),
    )


@dataclass(frozen=True)
class PathSamples:
    """What the points of a path gave, one by one, before they are weighted.

    metric, slope: the metric at each point, and its derivative along the path. values: the scores
    by each point's gradient alone, in `columns` of the score's last dimension; each stands for so
    many (`stands_for`). full_scores: all scores by the rule's own weights; None for a calibrated
    rule, whose `values` have all columns.
    """

    rule: Rule
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]
    metric: Float[Tensor, "point batch"]
    slope: Float[Tensor, "point batch"]
    values: Float[Tensor, "point batch ... some"]
    columns: Int[Tensor, " some"]
    stands_for: Float[Tensor, " column"]
    full_scores: Float[Tensor, "batch ... column"] | None

    def scores(self) -> PathScores:
        """The scores, and how far they are from those by calibrated weights."""
        observations = (self.metric, self.slope, self.corrupted, self.clean)
        weights = calibrated_weights(self.rule, *observations).to(self.values)
        own = weights.new_tensor(self.rule.weights)[:, None].expand_as(weights)
        doubt = self._weighted(weights - own)
        if self.full_scores is None:
            scores = self._weighted(weights)
        else:
            scores = self.full_scores
            doubt = torch.zeros_like(scores).index_copy_(-1, self.columns, doubt)
        count = torch.full_like(self.clean, len(self.slope), dtype=torch.int64)
        return PathScores(scores, self.clean, self.corrupted, doubt, self.stands_for, count)

    def _weighted(self, weights: Float[Tensor, "point batch"]) -> Float[Tensor, "batch ... some"]:
        return torch.einsum("kb,kb...->b...", weights, self.values)

    def select(self, examples: Tensor) -> PathSamples:
        """The samples of some examples (a mask over the batch)."""
        return PathSamples(
            self.rule,
            self.clean[examples],
            self.corrupted[examples],
            self.metric[:, examples],
            self.slope[:, examples],
            self.values[:, examples],
            self.columns,
            self.stands_for,
            None if self.full_scores is None else self.full_scores[examples],
        )

    def joined(self, more: PathSamples, rule: Rule) -> PathSamples:
        """The samples of a calibrated rule, from those of some of its points and of the others."""
        nodes = torch.tensor([*self.rule.nodes, *more.rule.nodes])
        order = nodes.argsort().to(self.values.device)
        metric, slope, values = (
            torch.cat(both)[order]
            for both in (
                (self.metric, more.metric),
                (self.slope, more.slope),
                (self.values, more.values),
            )
        )
        ends = (self.clean, self.corrupted)
        return PathSamples(rule, *ends, metric, slope, values, self.columns, self.stands_for, None)
