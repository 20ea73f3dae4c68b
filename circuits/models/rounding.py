"""How far apart two ways to compute the same may come out."""

from __future__ import annotations

import torch

_FLOAT32 = 1e-4
_NARROWER = 0.1  # a random Llama of 8B in bfloat16, 32 layers 4,096 wide: 0.05


def allowed_error(dtype: torch.dtype) -> float:
    """The largest error that rounding explains, as a share of the largest right value.

    Args:
        dtype: what the model computes in. Rounding adds up over layers, and more in wide ones.

    Returns:
        A share.
    """
    return _FLOAT32 if dtype == torch.float32 else _NARROWER
