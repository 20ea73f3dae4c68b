"""How alike circuits of one size from other examples would be, by each edge's mean and error.

A circuit holds the `size` edges whose mean score is largest. Over draws of examples a mean varies
about its truth with a standard error, so an edge is in with a probability p: that its mean lies
above the threshold at which `size` edges are in on average. Two draws share the sum of p^2 of them.
The threshold hardly varies between draws, so no edge needs to know of the others.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_FAR = 8.0  # standard errors, beyond which a normal tail is below 1e-15
_STEPS = 100
_CLOSE = 1e-7


def shared(
    means: Float[Tensor, " edge"], errors: Float[Tensor, " edge"], size: int, *, signed: bool
) -> float:
    """Share of a circuit's edges that another draw of as many examples would choose too.

    means: what the scores vary about. errors: their standard errors. signed: edges are ranked by
    score, not by its absolute value.
    """
    if size >= len(means):
        return 1.0
    values = (means if signed else means.abs()).double()
    errors = errors.double().clamp_min(1e-12 * float(values.abs().max().clamp_min(1e-300)))
    # At a threshold that twice as many means lie above, `size` edges or more are in.
    low = float(values.topk(min(2 * size, len(values))).values[-1])
    if 2 * size > len(values):
        low = float((values - _FAR * errors).min())
    near = values + _FAR * errors >= low
    values, errors = values[near], errors[near]
    high = float((values + _FAR * errors).max())
    threshold = low
    for _ in range(_STEPS):
        inside, density = _inside(values, errors, threshold, signed)
        over = float(inside.sum()) - size
        if abs(over) <= _CLOSE * size:
            break
        low, high = (threshold, high) if over > 0 else (low, threshold)
        threshold += over / max(density, 1e-300)
        if not low < threshold < high:  # Newton's step leads astray
            threshold = (low + high) / 2
    return float(inside.square().sum() / inside.sum())


def _inside(
    values: Float[Tensor, " edge"], errors: Float[Tensor, " edge"], threshold: float, signed: bool
) -> tuple[Float[Tensor, " edge"], float]:
    """Probability that each value, with a normal error, passes the threshold on either side.

    Also how fast their sum falls as the threshold rises.
    """
    inside, density = torch.zeros_like(values), 0.0
    for side in (values,) if signed else (values, -values):
        far = (side - threshold) / errors
        inside += torch.special.ndtr(far)
        density += float((torch.exp(-far.square() / 2) / errors).sum()) / math.sqrt(2 * math.pi)
    return inside, density


def jaccard_of(share: float) -> float:
    """The Jaccard index of two sets of the same size that have this share of it in common."""
    return share / (2 - share)
