"""How well scores rank what is known to matter above what is not."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROUNDING = 1e-5
"""Of the largest |score|: what is below it counts as 0. Float32 leaves up to this where the exact
effect is nil, and a ranking by rounding would be luck."""


def sizes(scores: Float[Tensor, "*sample edge"]) -> Float[Tensor, "*sample edge"]:
    """|Scores|, with rounding as 0.

    Args:
        scores: of each edge.

    Returns:
        What `auroc` and `found_first` rank by.
    """
    values = scores.abs()
    return values.where(values > ROUNDING * values.amax(dim=-1, keepdim=True), 0.0)


def auroc(
    scores: Float[Tensor, "*sample edge"], inside: Bool[Tensor, " edge"]
) -> Float[Tensor, "*sample"]:
    """The chance that an edge inside scores higher than one outside; equal scores count half.

    The area under the receiver operating characteristic, as the Mann-Whitney statistic over the
    number of comparisons.

    Args:
        scores: of each edge, the higher the more it matters.
        inside: which edges matter; some do and some do not.

    Returns:
        From 0 to 1; 0.5 is chance.
    """
    ours, others = scores[..., inside], scores[..., ~inside].sort(dim=-1).values.contiguous()
    below = torch.searchsorted(others, ours.contiguous(), right=False)
    not_above = torch.searchsorted(others, ours.contiguous(), right=True)
    wins = (below + not_above).double() / 2
    return (wins.mean(dim=-1) / others.shape[-1]).to(scores.dtype)


def found_first(
    scores: Float[Tensor, "*sample edge"], inside: Bool[Tensor, " edge"]
) -> Float[Tensor, "*sample"]:
    """The share of the edges inside among as many edges of the highest scores.

    Args:
        scores: of each edge, the higher the more it matters.
        inside: which edges matter.

    Returns:
        From 0 to 1; where equal scores lie at the border, what is expected of an order at random.
    """
    n = int(inside.sum())
    border = scores.topk(n, dim=-1).values[..., -1:]
    above, at = scores > border, scores == border
    room = (n - above.sum(dim=-1)) / at.sum(dim=-1)
    found = (above & inside).sum(dim=-1) + room * (at & inside).sum(dim=-1)
    return found / n
