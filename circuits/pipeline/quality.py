"""How good a model's summaries are, with intervals over articles."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.evaluation import SummaryQuality
from circuits.statistics.estimate import estimates
from circuits.tuning.rouge import SummaryScores

_MEANS = ("rouge1", "rouge2", "rougeL", "exact_match")


def summary_quality(scores: SummaryScores, *, seed: int) -> SummaryQuality:
    """Every figure of `SummaryScores.means` with its bootstrap interval.

    Loss and token accuracy are sums over sums of tokens, resampled by article.
    """
    targets = scores.targets
    columns = [getattr(scores, name) for name in _MEANS]
    columns += [targets.loss, targets.correct, targets.tokens]
    values = torch.tensor(columns, dtype=torch.float64).T

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        plain, sums, tokens = means.split([len(_MEANS), 2, 1], dim=-1)
        return torch.cat([plain, sums / tokens], dim=-1)

    rouge1, rouge2, rouge_l, exact, loss, accuracy = estimates(values, figures, seed=seed)
    return SummaryQuality(
        rouge1=rouge1,
        rouge2=rouge2,
        rougeL=rouge_l,
        exact_match=exact,
        token_accuracy=accuracy,
        loss=loss,
        n=len(scores),
        n_unicode=scores.unicode,
    )
