"""Attention in log space: its distributions, their entropy and divergence, exact.

A layer's attention is kept as the arguments of the `scaled_dot_product_attention` call that the
model made, d_head numbers a position and head, and its distributions are made again for a few
queries at a time: memory does not grow with the square of the text. Natural logarithms: nats.
A masked key has log-probability `MASKED` in both models and adds exactly 0 (0 log 0 = 0); a key
that softmax would let underflow still has its true log-probability.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

MASKED = -1e30
"""Log-probability of a key that cannot be seen: finite, so that 0 times it is 0."""

LogProbabilities = Float[Tensor, "batch head query key"]


@dataclass(frozen=True)
class Attention:
    """One layer's attention on a batch, by queries and keys.

    query, key: after rotary embedding and norms; KV heads are not expanded.
    mask: added to the scores, or True where a key can be seen; None with `causal`.
    """

    query: Float[Tensor, "batch head pos d_head"]
    key: Float[Tensor, "batch kv_head pos d_head"]
    scale: float
    mask: Shaped[Tensor, "*shape"] | None
    causal: bool

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.query.shape[1]

    @classmethod
    def of_call(
        cls,
        query: Tensor,
        key: Tensor,
        value: Tensor,  # noqa: ARG003  the signature is the function's
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,  # noqa: ARG003
        is_causal: bool = False,
        scale: float | None = None,
        **_: object,
    ) -> Attention:
        """From the arguments of `torch.nn.functional.scaled_dot_product_attention`."""
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
        return cls(query, key, scale, attn_mask, is_causal)

    def to(self, device: torch.device) -> Attention:
        """The same on a device."""
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, query=self.query.to(device), key=self.key.to(device), mask=mask)

    def log_probabilities(self, rows: slice) -> LogProbabilities:
        """Log of the attention of some queries; under a causal mask only over keys up to them."""
        batch, heads, _, width = self.query.shape
        stop = rows.stop if self.causal else self.key.shape[2]
        queries = self.query[:, :, rows].float() * self.scale
        count = queries.shape[2]
        # Query heads of a group stand together, so that no key is copied.
        grouped = queries.reshape(batch, self.key.shape[1], -1, width)
        scores = grouped @ self.key[:, :, :stop].float().transpose(-1, -2)
        scores = scores.view(batch, heads, count, stop)
        if self.causal:
            later = torch.ones(count, count, dtype=torch.bool, device=scores.device).triu(1)
            scores[..., rows.start :].masked_fill_(later, MASKED)
        elif self.mask is not None:
            seen = self.mask[..., rows, :] if self.mask.shape[-2] > 1 else self.mask
            if seen.dtype == torch.bool:
                scores.masked_fill_(~seen, MASKED)
            else:
                scores += seen.float()
        return scores.log_softmax(dim=-1).clamp_min_(MASKED)


@dataclass(frozen=True)
class Pattern:
    """One layer's attention as a model gave it, where it makes no SDPA call.

    A key that softmax let underflow counts as the smallest normal float32: the true value is lost.
    window: keys that a query sees, itself the last of them; None for all up to it.
    """

    pattern: Float[Tensor, "batch head query key"]
    window: int | None = None

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.pattern.shape[1]

    def log_probabilities(self, rows: slice) -> LogProbabilities:
        """Log of the attention of some queries."""
        least = torch.finfo(torch.float32).tiny
        log_pattern = self.pattern[:, :, rows].float().clamp_min(least).log()
        if self.window is None:
            return log_pattern
        query, key = (
            torch.arange(size, device=log_pattern.device) for size in self.pattern.shape[2:]
        )
        return log_pattern.masked_fill_(query[rows, None] - key >= self.window, MASKED)


def chunks(length: int, bytes_a_row: int, budget: int) -> Iterator[slice]:
    """Slices of the queries that keep to a budget."""
    size = max(1, budget // bytes_a_row)
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def entropy(
    p: Float[Tensor, "*batch key"], log_p: Float[Tensor, "*batch key"]
) -> Float[Tensor, "*batch"]:
    """-sum p log p over keys."""
    return -(p * log_p).sum(dim=-1).clamp_max(0.0)


def divergence(
    p: Float[Tensor, "*batch key"],
    log_p: Float[Tensor, "*batch key"],
    log_q: Float[Tensor, "*batch key"],
) -> Float[Tensor, "*batch"]:
    """KL(p || q) over keys, never negative. Past 1e20: p sees a key that q masks."""
    return (p * (log_p - log_q)).sum(dim=-1).clamp_min(0.0)


def over_positions(
    values: Float[Tensor, "batch *rest pos"], mask: Bool[Tensor, "batch pos"]
) -> Float[Tensor, " batch *rest"]:
    """Mean over the positions that are not padding."""
    where = mask.reshape(mask.shape[0], *[1] * (values.ndim - 2), mask.shape[1])
    total = torch.where(where, values.double(), 0.0).sum(dim=-1)
    return total / where.sum(dim=-1)
