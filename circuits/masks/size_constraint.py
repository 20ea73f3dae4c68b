"""What falls while a mask is learned: the size allowed, which a Lagrangian holds, and the noise."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.options.masks import MaskConfig


def target(config: MaskConfig, share: float) -> float:
    """How many gates may be open.

    Args:
        config: size, start and closing.
        share: of all steps that are done.

    Returns:
        From `start` times the size down to the size, by the same factor in every step; then the
        size.
    """
    return config.size * math.exp(math.log(config.start) * _left(share, config.closing))


def noise(config: MaskConfig, share: float) -> float:
    """How random the gates are.

    Edge Pruning draws them to the end. But a circuit is not drawn: gates that are open half of the
    time keep each other in, and which of them it needs shows only when they stand still.

    Args:
        config: settling.
        share: of all steps that are done.

    Returns:
        From 1 down to 0.
    """
    return _left(share, config.settling)


def _left(share: float, end: float) -> float:
    return max(0.0, 1 - share / end) if end else 0.0


def penalty(
    n_open: Float[Tensor, ""], wanted: float, multipliers: Float[Tensor, " 2"]
) -> Float[Tensor, ""]:
    """l1 d + l2 d^2, with d the share by which the expected size is off.

    Gates descend on it, and the multipliers climb, as in Edge Pruning. There d is a share of all
    edges; as a share of the size it means the same for every model.

    Args:
        n_open: expected size; differentiable.
        wanted: what it should be.
        multipliers: l1 and l2.

    Returns:
        The penalty.
    """
    off = n_open / wanted - 1
    return (multipliers * torch.stack([off, off.square()])).sum()
