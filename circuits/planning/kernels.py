"""What a device would run, for tensors without data: its attention kernel, and mixed precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn.functional import (
    layer_norm,
    linear,
    log_softmax,
    scaled_dot_product_attention,
    softmax,
)
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from circuits.planning.counter import FUSED_ATTENTION

_WIDEST_FUSED = 256  # d_head of CUDA's fused kernels
_HALF = (torch.float16, torch.bfloat16)


class Attention(TorchFunctionMode):
    """Attention as the device would run it: fused where it has a kernel for it."""

    def __init__(self, device: str) -> None:
        TorchFunctionMode.__init__(self)
        self.device = device

    def __torch_function__(
        self,
        function: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if function is scaled_dot_product_attention:
            attend: Callable[..., Tensor] = self._attend
            return attend(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """The signature is PyTorch's."""
        if not self._fused(query, value, enable_gqa, dropout_p):
            return scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask,
                dropout_p,
                is_causal,
                scale=scale,
                enable_gqa=enable_gqa,
            )
        mask = None if attn_mask is None else attn_mask.to(query.dtype)
        output: Tensor = FUSED_ATTENTION(
            query, key, value, dropout_p, is_causal, attn_mask=mask, scale=scale
        )[0]
        return output

    def _fused(self, query: Tensor, value: Tensor, grouped: bool, dropout: float) -> bool:
        if query.shape[-1] != value.shape[-1]:
            return False
        if self.device == "cpu":
            return dropout == 0
        # CUDA's kernel for float32 knows no grouped heads.
        return (query.dtype in _HALF and query.shape[-1] <= _WIDEST_FUSED) or not grouped


class MixedPrecision(TorchFunctionMode):
    """What `torch.autocast` to bfloat16 does, which passes tensors without data by.

    Products take their arguments in bfloat16. A weight that is trained is cast once and kept until
    the block ends; on CUDA, norms and softmax take theirs in float32.
    """

    def __init__(self, device: str) -> None:
        TorchFunctionMode.__init__(self)
        self.wide = _WIDE if device == "cuda" else ()
        self._cast: dict[Tensor, Tensor] = {}

    def __torch_function__(
        self,
        function: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        given = (args, kwargs or {})
        if function in _PRODUCTS:
            given = tree_map(self._narrowed, given)
        elif function in self.wide:
            given = tree_map(_widened, given)
        return function(*given[0], **given[1])

    def _narrowed(self, value: object) -> object:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(torch.bfloat16)
        if value not in self._cast:
            self._cast[value] = value.to(torch.bfloat16)
        return self._cast[value]

    def __exit__(self, *error: object) -> None:
        self._cast.clear()
        super().__exit__(*error)  # type: ignore[no-untyped-call]


_PRODUCTS = (
    linear,
    scaled_dot_product_attention,
    torch.matmul,
    torch.mm,
    torch.bmm,
    torch.addmm,
    torch.baddbmm,
    Tensor.matmul,
    Tensor.__matmul__,
    Tensor.mm,
    Tensor.bmm,
)
_WIDE = (layer_norm, softmax, log_softmax, torch.softmax, torch.log_softmax, Tensor.softmax)


def _widened(value: object) -> object:
    narrow = isinstance(value, Tensor) and value.dtype in _HALF
    return value.float() if narrow else value  # type: ignore[attr-defined]
