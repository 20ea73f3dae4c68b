"""How similar two rankings or two circuits are, for any leading batch dimensions."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def sorted_ranks(
    ordered: Float[Tensor, "*batch k"], order: Int[Tensor, "*batch k"]
) -> Float[Tensor, "*batch k"]:
    """Ranks from 0 in the direction of a sort already done, from its two results; ties share their
    mean rank.

    Ours, since `scipy.stats.rankdata` sorts again: 82 ms instead of 8 for 16 rows of 32,491 edges.
    """
    count = ordered.shape[-1]
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ranks = torch.arange(count, dtype=ordered.dtype).expand(ordered.shape)
    if not starts.all():
        ends = torch.ones_like(starts)
        ends[..., :-1] = starts[..., 1:]
        first = torch.where(starts, ranks, 0).cummax(dim=-1).values
        last = torch.where(ends, ranks, count).flip(-1).cummin(dim=-1).values.flip(-1)
        ranks = (first + last) / 2
    return torch.empty_like(ordered).scatter_(-1, order, ranks)


def order_by_size(values: Float[Tensor, "*batch k"]) -> Int[Tensor, "*batch k"]:
    """Where the float32 values stand from largest to smallest |value|; ties in order of place.

    The bits of a non-negative float32 order as it does, so value and place fit in one int64, which
    NumPy sorts in under half the time of a stable argsort.
    """
    bits = values.float().abs().view(torch.int32).long()
    keys = ((2**31 - 1 - bits) << 32) | torch.arange(values.shape[-1])
    return torch.from_numpy(np.sort(keys.numpy(), axis=-1)) & (2**32 - 1)


def unit_ranks(ranked: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """Ranks less their mean, scaled to unit length: the dot of two is Spearman's correlation."""
    centred = ranked.double() - (ranked.shape[-1] - 1) / 2
    return centred / centred.square().sum(dim=-1, keepdim=True).sqrt()


def correlation(
    a: Float[Tensor, "*batch k"], b: Float[Tensor, "*batch k"]
) -> Float[Tensor, "*batch"]:
    """Dot product of two `unit_ranks`, kept within [-1, 1] against rounding."""
    return (a * b).sum(dim=-1).clamp(-1.0, 1.0)


def weighted_jaccard(
    a: Float[Tensor, "*batch k"], b: Float[Tensor, "*batch k"]
) -> Float[Tensor, "*batch"]:
    """Jaccard index weighted by size (Ruzicka): sum min(|a|, |b|) / sum max(|a|, |b|).

    Each side is first scaled to a sum of 1: a checkpoint whose scores are all larger by one factor
    has the same circuit. 1 for two empty sides, 0 for one.
    """
    a, b = a.abs(), b.abs()
    return weighted_jaccard_from_sums(a, b, a.sum(dim=-1), b.sum(dim=-1))


def weighted_jaccard_from_sums(
    a: Float[Tensor, "*batch k"],
    b: Float[Tensor, "*batch k"],
    sum_a: Float[Tensor, "*batch"],
    sum_b: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """Weighted Jaccard of members' sizes (not negative) and each side's sum over all its members.

    Members of one side alone may be left out of `a` and `b`: the smaller of their two sizes is 0.
    Scaled to a sum of 1 both sides add up to 2, so sum(larger) = 2 - sum(smaller).
    """
    scale_a, scale_b = (
        torch.where(total > 0, 1 / total, 0.0)[..., None] for total in (sum_a, sum_b)
    )
    least = torch.minimum(a * scale_a, b * scale_b).sum(dim=-1).double()
    present = (sum_a > 0).double() + (sum_b > 0).double()
    most = present - least
    return torch.where(most > 0, least / most, 1.0).clamp_max(1.0)
