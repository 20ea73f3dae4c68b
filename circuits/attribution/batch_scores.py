"""Scores of one batch, as methods return them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


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

    On its way the metric moves by clean - corrupted exactly. integral: what the same quadrature
    makes of the metric's own derivative along the path; variation: of the derivative's absolute
    value. gradients: how many were taken.

    The difference, the *completeness gap* (Sundararajan, Taly & Yan 2017, "Axiomatic Attribution
    for Deep Networks"), costs nothing to know and tells how good the quadrature was;
    docs/quadrature.md shows how well.
    """

    integral: Float[Tensor, " batch"]
    variation: Float[Tensor, " batch"]
    gradients: Int[Tensor, " batch"]

    @property
    def gap(self) -> Float[Tensor, " batch"]:
        """Completeness gap, absolute; units of the metric."""
        return (self.integral - (self.clean - self.corrupted)).abs()

    @property
    def scale(self) -> Float[Tensor, " batch"]:
        """What the gap is a share of: the way that the metric goes, there and back."""
        return torch.maximum(self.variation, (self.clean - self.corrupted).abs())

    @property
    def error(self) -> Float[Tensor, " batch"]:
        """Estimated relative L1 error of each example's scores."""
        return self.gap / self.scale.clamp(min=torch.finfo(self.scale.dtype).tiny)
