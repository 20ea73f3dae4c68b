"""Scores along the path from corrupted to clean, with an estimate of their error.

On its way the metric moves by clean - corrupted exactly, and the quadrature's own value for that is
the sum of the scores of all edges out of `input`: they are all the ways in which the embedding
enters the model. The difference, the *completeness gap* (Sundararajan, Taly & Yan 2017, "Axiomatic
Attribution for Deep Networks"), costs nothing to know. As a share of the absolute scores of those
edges it estimates the relative L1 error of all of them; docs/quadrature.md shows how well.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attribution.engine import BatchScores, edge_scores
from circuits.attribution.quadrature import REFINEMENTS, Rule
from circuits.metrics import Metric
from circuits.models import HookedModel
from tasks.pairs import PairBatch

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PathScores(BatchScores):
    """Scores of one batch, and how far to trust them.

    gap: completeness gap of each example, absolute, units of the metric. scale: what it is a share
    of. gradients: how many were taken for each example.
    """

    gap: Float[Tensor, " batch"]
    scale: Float[Tensor, " batch"]
    gradients: Int[Tensor, " batch"]

    @property
    def error(self) -> Float[Tensor, " batch"]:
        """Estimated relative L1 error of each example's scores."""
        return self.gap / self.scale.clamp(min=torch.finfo(self.scale.dtype).tiny)


def along_path(model: HookedModel, batch: PairBatch, metric: Metric, rule: Rule) -> PathScores:
    """Scores by a fixed rule."""
    found = edge_scores(model, batch, metric, rule)
    return _with_gap(
        model,
        found.scores,
        found.clean,
        found.corrupted,
        torch.full_like(batch.index, len(rule.nodes)),
    )


def refined(model: HookedModel, batch: PairBatch, metric: Metric, tolerance: float) -> PathScores:
    """Scores whose estimated error is at most `tolerance`, each example with as many gradients as
    it needs: 3, 7, 13, 25, 49 or 97, none computed twice.

    An example is refined by itself, so its scores do not depend on what else is in the batch. One
    that has not come down to the tolerance at the last refinement is returned as it is.
    """
    found = along_path(model, batch, metric, REFINEMENTS[0])
    for rule in REFINEMENTS[1:]:
        rough = found.error > tolerance
        if not rough.any():
            return found
        more = edge_scores(model, batch.select(rough), metric, rule)
        scores, gradients = found.scores.clone(), found.gradients.clone()
        scores[rough] = (scores[rough] + more.scores) / 2
        gradients[rough] += len(rule.nodes)
        found = _with_gap(model, scores, found.clean, found.corrupted, gradients)
    if (missed := found.error > tolerance).any():
        first = batch.sources[int(missed.nonzero()[0])]
        _log.warning(
            "%s: estimated error %.1f %% after %d gradients, above the tolerance; %d such examples "
            "in this batch",
            first,
            100 * float(found.error[missed][0]),
            int(found.gradients.max()),
            int(missed.sum()),
        )
    return found


def _with_gap(
    model: HookedModel,
    scores: Float[Tensor, "batch source reader"],
    clean: Float[Tensor, " batch"],
    corrupted: Float[Tensor, " batch"],
    gradients: Int[Tensor, " batch"],
) -> PathScores:
    inputs = [row for row, node in enumerate(model.layout.source_nodes) if node.kind == "input"]
    out = scores[:, inputs].flatten(1)
    moved = clean - corrupted
    gap = (out.sum(dim=1) - moved).abs()
    scale = torch.maximum(out.abs().sum(dim=1), moved.abs())
    return PathScores(scores, clean, corrupted, gap, scale, gradients)
