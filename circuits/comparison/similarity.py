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


def inverse(sums: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 1"]:
    """What scales members to a sum of 1; 0 where their sum is 0."""
    return torch.where(sums > 0, 1 / sums, 0.0)[..., None]


def weighted_jaccard(
    a: Float[Tensor, "*batch k"],
    b: Float[Tensor, "*batch k"],
    scale_a: Float[Tensor, "*batch 1"],
    scale_b: Float[Tensor, "*batch 1"],
) -> Float[Tensor, "*batch"]:
    """Jaccard index weighted by size (Ruzicka): sum min(a, b) / sum max(a, b).

    a, b: |score| times the side's scale, so that each side adds up to 1: a checkpoint whose scores
        are all larger by one factor has the same circuit. Members of one side alone may be left
        out: the lesser of their two sizes is 0.
    scale_a, scale_b: from `inverse` of each side's sum over all its members.

    Both sides add up to 2, so sum max = 2 - sum min. 1 for two empty sides, 0 for one.
    """
    least = torch.minimum(a, b).sum(dim=-1).double()
    sides = ((scale_a > 0).double() + (scale_b > 0).double())[..., 0]
    most = sides - least
    return torch.where(most > 0, least / most, 1.0).clamp_max(1.0)
