"""A norm whose scale is taken for a constant: y = weight (x - mean) / sigma, sigma fixed.

The gradient at the input is then centred(weight g) / sigma, without the part along xhat that says
how sigma moves. LRP's LN-rule; "norm freezing" in GIM.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from circuits.models.norm import Norm
from circuits.runtime.autograd import Context


def frozen(norm: Norm) -> Callable[..., Tensor]:
    """What a norm's module runs instead of its `forward`: the same numbers, another gradient.

    Args:
        norm: as described; its module is called with one tensor.

    Returns:
        For `replaced_forwards`.
    """
    return partial(_run, norm, norm.module.forward)


def _run(norm: Norm, own: Callable[..., Tensor], *args: Tensor, **kwargs: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return own(*args, **kwargs)
    (x,) = (*args, *kwargs.values())
    through: Callable[..., Tensor] = _Frozen.apply
    return through(x, own, norm)


class _Frozen(torch.autograd.Function):
    """The module's own output; backward, sigma is a constant."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, own: Callable[..., Tensor], norm: Norm) -> Tensor:
        ctx.norm, ctx.dtype = norm, x.dtype
        ctx.save_for_backward(norm.inverse(x))
        return own(x)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        norm: Norm = ctx.norm
        gradient = gradient.to(inverse.device)  # of a model on several devices
        return norm.scaled_back(gradient, inverse).to(ctx.dtype), None, None


def is_norm(module: nn.Module) -> bool:
    """Whether a module is called a norm and is one thing by itself.

    Args:
        module: of a model.

    Returns:
        By the name of its class; what it computes, `Norm.of` looks at.
    """
    return "norm" in type(module).__name__.lower() and not [*module.children()]
