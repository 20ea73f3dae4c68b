"""A softmax whose gradient is that of a softer one.

Forward, attention weights are softmax(s). Backward, where P_T = softmax(s / T),

    ds = P_T (dP - sum(P_T dP)),

the derivative of the weights at temperature T with respect to s / T; values get the true weights.
GIM's "temperature-adjusted gradients": where one key takes all, the true derivative is all but zero
whatever stands behind the key.

Attention is seen where it is computed, so this knows no architecture: while an attention module
runs, what it asks of torch is looked at, and its one call of scaled_dot_product_attention, or of
softmax, is made twice, for the value and for the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, softmax
from torch.overrides import TorchFunctionMode

from circuits.runtime.autograd import Context

_SOFTMAX = (softmax, torch.softmax, Tensor.softmax)


def tempered(module: nn.Module, temperature: float) -> Callable[..., object]:
    """What an attention module runs instead of its `forward`: the same numbers, another gradient.

    Args:
        module: it computes its weights once, by one of torch's functions above.
        temperature: of the gradient; 1 is the true one.

    Returns:
        For `replaced_forwards`.
    """
    return partial(_run, module.forward, temperature)


def _run(own: Callable[..., object], temperature: float, *args: object, **kwargs: object) -> object:
    if not torch.is_grad_enabled():
        return own(*args, **kwargs)
    with _Softer(temperature):
        return own(*args, **kwargs)


class WeightsSeen(TorchFunctionMode):
    """Counts how often attention weights are computed by a function that can be changed.

    count: so often, since this was made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """Every call of torch's, while this is in place."""
        self.count += func is scaled_dot_product_attention or func in _SOFTMAX
        return func(*args, **(kwargs or {}))


class _Softer(TorchFunctionMode):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        keywords = kwargs or {}
        if func is scaled_dot_product_attention:
            return _attention(self.temperature, *args, **keywords)
        if func in _SOFTMAX:
            return _softmax(self.temperature, func, *args, **keywords)
        return func(*args, **keywords)


def _softmax(
    temperature: float, own: Callable[..., Tensor], x: Tensor, *args: object, **kwargs: object
) -> Tensor:
    with torch.no_grad():
        value = own(x, *args, **kwargs)
    softer = own(x / temperature, *args, **kwargs)
    instead: Callable[..., Tensor] = _Instead.apply
    return instead(value, softer, temperature)


def _attention(
    temperature: float,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    run = partial(
        scaled_dot_product_attention,
        dropout_p=dropout_p,
        is_causal=is_causal,
        enable_gqa=enable_gqa,
    )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    softer_mask = attn_mask
    if attn_mask is not None and attn_mask.is_floating_point():  # it is added to the scores
        softer_mask = attn_mask / temperature
    mixed = run(query.detach(), key.detach(), value, attn_mask=attn_mask, scale=scale)
    softer = run(query, key, value.detach(), attn_mask=softer_mask, scale=scale / temperature)
    instead: Callable[..., Tensor] = _Instead.apply
    return instead(mixed, softer, temperature)


class _Instead(torch.autograd.Function):
    """The first tensor; both have its gradient, the second `times` so much."""

    @staticmethod
    def forward(ctx: Context, value: Tensor, _: Tensor, times: float) -> Tensor:
        ctx.times = times
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return gradient, gradient * ctx.times, None
