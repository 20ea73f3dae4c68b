"""An activation function taken for a multiplication: f(x) = (f(x) / x) x, the ratio fixed.

The gradient f'(x) becomes f(x) / x, and 0 where x is 0: LRP's identity rule. So what goes in and
what comes out have the same relevance, where f'(x) of a GELU or SiLU may even have the other sign.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from circuits.runtime.autograd import Context


def by_ratio(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """What an activation module runs instead of its `forward`: the same numbers, another gradient.

    Args:
        module: it works on every number by itself, and makes 0 of 0.

    Returns:
        For `replaced_forwards`.
    """
    return partial(_run, module.forward)


def _run(own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return own(x)
    through: Callable[..., Tensor] = _ByRatio.apply
    return through(x, own)


class _ByRatio(torch.autograd.Function):
    """The module's own output; backward, what it is of its input is a constant."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, own: Callable[[Tensor], Tensor]) -> Tensor:
        y = own(x)
        ctx.save_for_backward((y.to(x.device) / x).masked_fill_(x == 0, 0.0))
        return y

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None]:
        (ratio,) = ctx.saved_tensors
        return gradient.to(ratio.device) * ratio, None
