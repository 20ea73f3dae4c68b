"""Hard-concrete gates: random numbers from 0 to 1, often exactly 0 or 1, with a gradient.

With u uniform, s = sigmoid((log u - log(1 - u) + a) / BETA) is stretched to (GAMMA, ZETA) and cut
to [0, 1] (Louizos, Welling & Kingma 2018). Edge Pruning (Bhaskar et al. 2024) learns circuits by
them, with these constants.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

GAMMA, ZETA = -0.1, 1.1
BETA = 2 / 3
_SHIFT = -BETA * math.log(-GAMMA / ZETA)
_EPS = 1e-6

Logits = Float[Tensor, " gate"]


def sampled(logits: Logits, draw: torch.Generator, noise: float = 1.0) -> Logits:
    """One draw of every gate; differentiable.

    Args:
        logits: a of every gate, on the CPU.
        draw: where the noise is from.
        noise: what log u - log(1 - u) is multiplied with; 0 draws nothing.

    Returns:
        Gates from 0 to 1.
    """
    u = torch.rand(logits.shape, generator=draw).clamp(_EPS, 1 - _EPS)
    s = torch.sigmoid((noise * u.logit() + logits) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def settled(logits: Logits, size: int) -> Logits:
    """The gates most likely to be open at 1, all others at 0: the circuit itself.

    Args:
        logits: a of every gate.
        size: how many are open.

    Returns:
        Zeros and ones, differentiable as what `sampled` gives without noise.
    """
    soft = (torch.sigmoid(logits / BETA) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
    hard = torch.zeros_like(soft)
    hard[logits.detach().topk(size).indices] = 1
    return hard + (soft - soft.detach())


def p_open(logits: Logits) -> Logits:
    """The probability that a gate is above 0; differentiable.

    Args:
        logits: a of every gate.

    Returns:
        Numbers from 0 to 1. They add up to the expected size.
    """
    return torch.sigmoid(logits + _SHIFT)


def shifted_to(logits: Logits, size: float) -> Logits:
    """The same logits moved up or down together, so that so many gates are open on average.

    Args:
        logits: a of every gate.
        size: more than 0, and less than there are.

    Returns:
        The logits; open gates are off `size` by less than a thousandth of it.
    """
    low, high = -100.0 - float(logits.max()), 100.0 - float(logits.min())
    for _ in range(60):
        middle = (low + high) / 2
        few = float(p_open(logits + middle).sum()) < size
        low, high = (middle, high) if few else (low, middle)
    return logits + high
