"""How alike two rankings or two circuits are. Every function takes any leading batch dimensions."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def ranks(values: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """Ranks from 0, least first; ties share their mean rank."""
    ordered, order = values.sort(dim=-1)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    place = torch.arange(values.shape[-1]).expand(values.shape)
    first = torch.where(starts, place, 0).cummax(dim=-1).values
    ends = torch.ones_like(starts)
    ends[..., :-1] = starts[..., 1:]
    last = torch.where(ends, place, values.shape[-1]).flip(-1).cummin(dim=-1).values.flip(-1)
    return torch.empty_like(values).scatter_(-1, order, ((first + last) / 2).to(values.dtype))


def spearman(a: Float[Tensor, "*batch k"], b: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """Rank correlation; NaN where one side has a single value throughout."""
    return correlation(centred_ranks(a), centred_ranks(b))


def centred_ranks(values: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """Ranks less their mean, scaled to unit length: the dot of two is Spearman's correlation."""
    centred = ranks(values.double()) - (values.shape[-1] - 1) / 2
    return centred / centred.square().sum(dim=-1, keepdim=True).sqrt()


def correlation(
    a: Float[Tensor, "*batch k"], b: Float[Tensor, "*batch k"]
) -> Float[Tensor, "*batch"]:
    """Dot product of two `centred_ranks`, kept within [-1, 1] against rounding."""
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
