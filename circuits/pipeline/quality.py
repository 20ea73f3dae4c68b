"""Intervals of a model's summaries, over articles."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.statistics.estimate import estimates
from circuits.tuning.rouge import SummaryScores

_MEANS = ("rouge1", "rouge2", "rougeL", "exact_match")


def quality_intervals(scores: SummaryScores, *, seed: int) -> dict[str, Any]:
    """Bootstrap intervals of every figure of `SummaryScores.means`, by its name.

    Loss and token accuracy are sums over sums of tokens, resampled by article.
    """
    targets = scores.targets
    columns = [getattr(scores, name) for name in _MEANS]
    columns += [targets.loss, targets.correct, targets.tokens]
    values = torch.tensor(columns, dtype=torch.float64).T

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        plain, sums, tokens = means.split([len(_MEANS), 2, 1], dim=-1)
        return torch.cat([plain, sums / tokens], dim=-1)

    found = estimates(values, figures, seed=seed)
    names = (*_MEANS, "loss", "token_accuracy")
    return {name: one.to_dict() for name, one in zip(names, found, strict=True)}
