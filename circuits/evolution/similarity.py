"""How alike two rankings or two circuits are. Every function takes any leading batch dimensions."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def ranks(values: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """Ranks from 0, least first; ties share their mean rank."""
    ordered, order = values.sort(dim=-1)
    return sorted_ranks(ordered, order)


def sorted_ranks(
    ordered: Float[Tensor, "*batch k"], order: Int[Tensor, "*batch k"]
) -> Float[Tensor, "*batch k"]:
    """Ranks in the direction of a sort already done, from its two results."""
    count = ordered.shape[-1]
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    place = torch.arange(count, dtype=ordered.dtype).expand(ordered.shape)
    if not starts.all():
        ends = torch.ones_like(starts)
        ends[..., :-1] = starts[..., 1:]
        first = torch.where(starts, place, 0).cummax(dim=-1).values
        last = torch.where(ends, place, count).flip(-1).cummin(dim=-1).values.flip(-1)
        place = (first + last) / 2
    return torch.empty_like(ordered).scatter_(-1, order, place)


def order_by_size(values: Float[Tensor, "*batch k"]) -> Int[Tensor, "*batch k"]:
    """Where the float32 values stand from largest to smallest |value|; ties in order of place.

    The bits of a non-negative float32 order as it does, so value and place fit in one int64, which
    NumPy sorts in under half the time of a stable argsort.
    """
    bits = values.float().abs().view(torch.int32).long()
    keys = ((2**31 - 1 - bits) << 32) | torch.arange(values.shape[-1])
    return torch.from_numpy(np.sort(keys.numpy(), axis=-1)) & (2**32 - 1)


def spearman(a: Float[Tensor, "*batch k"], b: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """Rank correlation; NaN where one side has a single value throughout."""
    return correlation(unit_ranks(ranks(a)), unit_ranks(ranks(b)))


def unit_ranks(ranked: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """Ranks less their mean, scaled to unit length: the dot of two is Spearman's correlation."""
    centred = ranked.double() - (ranked.shape[-1] - 1) / 2
    return centred / centred.square().sum(dim=-1, keepdim=True).sqrt()


def correlation(
    a: Float[Tensor, "*batch k"], b: Float[Tensor, "*batch k"]
) -> Float[Tensor, "*batch"]:
    """Dot product of two `unit_ranks`, kept within [-1, 1] against rounding."""
    return (a * b).sum(dim=-1).clamp(-1.0, 1.0)


def jaccard(a: Bool[Tensor, "*batch k"], b: Bool[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """Shared members over all members; 1 for two empty sets."""
    shared, either = (a & b).sum(dim=-1).double(), (a | b).sum(dim=-1).double()
    return torch.where(either > 0, shared / either, 1.0)


def weighted_jaccard(
    a: Float[Tensor, "*batch k"], b: Float[Tensor, "*batch k"]
) -> Float[Tensor, "*batch"]:
    """Jaccard in which members count by size (Ruzicka): sum min(|a|, |b|) / sum max(|a|, |b|).

    Each side is first scaled to a sum of 1, so that a checkpoint with larger scores throughout is
    not thereby another circuit. 1 for two empty sides, 0 for one.
    """
    a, b = shares(a), shares(b)
    least, most = torch.minimum(a, b).sum(dim=-1), torch.maximum(a, b).sum(dim=-1)
    return torch.where(most > 0, least / most, 1.0)


def shares(values: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """|values| scaled to a sum of 1; all zero stays all zero."""
    size = values.abs().double()
    total = size.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, size / total, 0.0)
