"""What a block of code has an accelerator do: operations, and moments at which the host waits.

Works on a real accelerator, and on the pretended one of `elsewhere.py`, where a machine without any
counts the same. An operation is one call of a PyTorch kernel on the accelerator's tensors; views,
memory that nothing is written to and what has no numbers are none. A few are more than one launch
(a sort), none less.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
_FREE = (
    aten.detach,
    aten.alias,
    aten._unsafe_view,
    aten._reshape_alias,
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.new_empty_strided,
    aten.lift,
    aten.lift_fresh,
    aten.dequantize,  # of pretended tensors, which code takes for quantised ones
)
_WAITING = (
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.equal,
    aten._unique2,
)
_INDEXING = (aten.index, aten.index_put, aten.index_put_)
_READS = (Tensor.tolist, Tensor.numpy)


class Counted:
    """What was counted.

    launches: operations on the accelerator. kinds: launches by name.
    waits: of them and of moves to the host, those that the host waits for.
    sent: tensors that went from the host to the accelerator.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.kinds: Counter[str] = Counter()
        self.waits = self.sent = 0
        self.silent = 0  # within what counts as one

    @property
    def launches(self) -> int:
        return self.kinds.total()

    def there(self, x: Any) -> bool:
        return isinstance(x, Tensor) and x.device.type == self.device.type

    def see(self, function: Any, args: Any, kwargs: Any, output: Any) -> None:
        """One call that reached the dispatcher."""
        packet = function.overloadpacket
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        outputs = [x for x in tree_leaves(output) if isinstance(x, Tensor)]
        if self.silent or not any(map(self.there, (*inputs, *outputs))):
            return
        if packet is aten.copy_ or packet is aten._to_copy:
            source, target = (args[1], args[0]) if packet is aten.copy_ else (args[0], output)
            if self.there(source) != self.there(target):
                self.sent += self.there(target) and source.numel() > 0
                self.waits += self.there(source)
                return
        if packet in _INDEXING:
            places = [x for x in args[1] if x is not None]
            self.waits += any(x.dtype in (torch.bool, torch.uint8) for x in places)
            self.sent += sum(not self.there(x) for x in places)
        self.waits += packet in _WAITING
        free = function.is_view or packet in _FREE or packet is aten._local_scalar_dense
        if not free and any(x.numel() for x in outputs):
            self.kinds[str(packet).removeprefix("aten.")] += 1


@contextmanager
def counted(device: torch.device | str):
    """Counts within what happens on a device; on `elsewhere.DEVICE`, inside `elsewhere()`."""
    found = Counted(torch.device(device))
    with _Operators(found), _Functions(found):
        yield found


class _Operators(TorchDispatchMode):
    def __init__(self, found: Counted) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        self.found.see(func, args, kwargs or {}, output)
        return output


class _Functions(TorchFunctionMode):
    """What the dispatcher is not asked for, and attention, which an accelerator runs as one."""

    def __init__(self, found: Counted) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = self.found
        if func in _READS and found.there(args[0]):
            found.waits += 1
            found.silent += 1
            try:
                return func(*args, **kwargs)
            finally:
                found.silent -= 1
        if func is functional.scaled_dot_product_attention and found.device.type == "lazy":
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """By the CPU's fused kernel, which PyTorch would not choose for an unknown device."""
    if enable_gqa:
        group = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        blank = torch.zeros_like(attn_mask, dtype=query.dtype)
        attn_mask = blank.masked_fill(~attn_mask, -torch.inf)
    fused = aten._scaled_dot_product_flash_attention_for_cpu
    return fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
