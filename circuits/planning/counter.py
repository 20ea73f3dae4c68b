"""Count what operations cost while they run, on real tensors or on tensors without data."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from circuits.planning.remembered import Remembered

_aten = torch.ops.aten
FUSED_ATTENTION = _aten._scaled_dot_product_flash_attention_for_cpu
_FUSED_BACKWARD = _aten._scaled_dot_product_flash_attention_for_cpu_backward
_PRODUCTS = {FUSED_ATTENTION: 2, _FUSED_BACKWARD: 5}
"""Matrix products in a fused attention kernel; the backward one computes the pattern again."""
_VIEWS = (_aten.detach, _aten._unsafe_view)  # and those that say so themselves


class Counter(TorchDispatchMode):
    """Sees every operation inside its `with` block.

    matmul, attention: floating-point operations of matrix products and of fused attention.
    moved: bytes read and written by all other operations but views.
    launches: how many operations there are, views left out.
    live, peak: bytes of all tensors born inside that are alive now, and the most at a time.
    """

    def __init__(self, outside: Iterable[Tensor] = (), *, answer: bool | None = None) -> None:
        """Start at zero.

        outside: tensors whose memory is left out of account.
        answer: what tensors without data say when a model asks for a value of theirs; None lets
            them refuse.
        """
        TorchDispatchMode.__init__(self)
        self.matmul = self.attention = self.moved = self.launches = self.live = self.peak = 0
        self.answer = answer
        self._made = Remembered()
        self._known: dict[int, object] = dict.fromkeys(storages(outside))

    def __torch_dispatch__(
        self,
        function: OpOverload,
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        scalar = function is _aten._local_scalar_dense.default
        asked = scalar and isinstance(args[0], Tensor) and args[0].is_meta
        if asked and self.answer is not None:
            return self.answer
        packet = function.overloadpacket
        if function.is_view or packet in _VIEWS:
            output = function(*args, **kwargs)
            for tensor in _tensors(output):
                self._born(tensor)
            return output
        output = self._made.output(function, args, kwargs)
        inputs, outputs = _tensors(args), _tensors(output)
        for tensor in outputs:
            self._born(tensor)
        self.launches += 1
        if packet in _PRODUCTS:
            query, key = inputs[:2] if packet is FUSED_ATTENTION else inputs[1:3]
            self.attention += 2 * _PRODUCTS[packet] * query.numel() * key.shape[-2]
        elif packet in flop_registry:
            self.matmul += flop_registry[packet](*args, **kwargs, out_val=output)
        else:
            self.moved += sum(x.numel() * x.element_size() for x in (*inputs, *outputs))
        return output

    def _born(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return

        def died(_: object) -> None:
            self.live -= size
            del self._known[key]

        self.live += size
        self.peak = max(self.peak, self.live)
        self._known[key] = weakref.ref(storage, died)


def storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Bytes of each storage, by identity; what tensors share counts once.

    Args:
        tensors: which may share storage.

    Returns:
        Identity -> bytes.
    """
    return {id(t.untyped_storage()): t.untyped_storage().nbytes() for t in tensors}


def _tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
