"""Entropy and divergence of attention patterns, exact, with masked keys and padding left out.

Natural logarithms: nats. A masked key has probability 0 in both models and adds 0 (0 log 0 = 0).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def entropy(pattern: Float[Tensor, "*batch key"]) -> Float[Tensor, "*batch"]:
    """-sum p log p over keys."""
    pattern = pattern.float()
    return -torch.xlogy(pattern, pattern).sum(dim=-1).clamp_max(0.0)


def divergence(
    p: Float[Tensor, "*batch key"], q: Float[Tensor, "*batch key"]
) -> Float[Tensor, "*batch"]:
    """KL(p || q) over keys, never negative.

    A key that q gives less than the smallest normal float32 counts as that: softmax underflows
    there, and the true divergence is finite.
    """
    p, q = p.float(), q.float()
    least = torch.finfo(torch.float32).tiny
    terms = torch.xlogy(p, p) - torch.xlogy(p, q.clamp_min(least))
    return terms.sum(dim=-1).clamp_min(0.0)


def over_positions(
    values: Float[Tensor, "batch *rest pos"], mask: Bool[Tensor, "batch pos"]
) -> Float[Tensor, " batch *rest"]:
    """Mean over the positions that are not padding."""
    where = mask.reshape(mask.shape[0], *[1] * (values.ndim - 2), mask.shape[1])
    kept = torch.where(where, values.double(), 0.0).sum(dim=-1)
    return kept / where.sum(dim=-1)
