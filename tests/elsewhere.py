"""Pretended accelerators: tensors in host memory that say they are on another device.

A GPU refuses to mix its tensors with the host's and with another GPU's, and so do these; what is
done to them is done on the CPU. Code that runs here, and finds what it finds on the CPU, leaves no
tensor behind on the wrong device, and none is made there. It says nothing about a GPU's own
arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy:0")  # of the types that exist, one that autograd runs on CPU threads
SECOND = torch.device("lazy:1")
aten = torch.ops.aten
INDEXING = (aten.index, aten.index_put, aten.index_put_)


class Far(Tensor):
    """A host tensor, `inner`, that says it is on `DEVICE` or `SECOND`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device = DEVICE) -> Far:
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device,
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """`DEVICE` exists within."""
    with _Operators(), _Functions():
        yield DEVICE


def _dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    far = [one for one in tensors if isinstance(one, Far)]
    near = [one for one in tensors if not isinstance(one, Far) and one.dim()]
    moves = func in (aten._to_copy.default, aten.copy_.default)
    indexes = func.overloadpacket in INDEXING and isinstance(args[0], Far)
    if far and near and not moves and not indexes:
        shapes = [[tuple(one.shape) for one in side] for side in (near, far)]
        raise RuntimeError(f"{func}: {shapes[0]} on the host, {shapes[1]} elsewhere")
    places = {one.device for one in far if one.dim()}
    if len(places) > 1 and not moves:
        raise RuntimeError(f"{func}: tensors on {sorted(map(str, places))}")
    device = kwargs.get("device")
    if device is not None:
        kwargs = {**kwargs, "device": "cpu"}
    out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if func is aten.copy_.default:
        return args[0]
    goes = bool(far) if device is None else torch.device(device).type == DEVICE.type
    where = torch.device(device) if device is not None else next(iter(places), DEVICE)
    if not goes or func is aten._local_scalar_dense.default:
        return out
    known = {id(one.inner): one for one in far}  # what is changed in place stays itself

    def labelled(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return known[id(x)] if id(x) in known else Far(x, where)

    return tree_map(labelled, out)


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, Far) else x


class _Operators(TorchDispatchMode):
    """New tensors on `DEVICE`, and all that is done to tensors."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What PyTorch does without asking the dispatcher."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if func is torch.matmul and isinstance(kwargs.get("out"), Far):
            return kwargs["out"].copy_(torch.matmul(*args))
        if args and isinstance(args[0], Far) and func in _OF_FAR:
            return _OF_FAR[func](func, *args, **kwargs)
        return func(*args, **kwargs)


def _on_host(func: Any, tensor: Far, *args: Any) -> Any:
    return func(tensor.inner.detach(), *args)


def _refused(*_: Any, **__: Any) -> Any:
    raise TypeError("a tensor elsewhere has no NumPy array; move it to the host first")


def _new_tensor(_: Any, tensor: Far, data: Any, dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(data, dtype=dtype or tensor.dtype).to(tensor.device)


def _subscript(func: Any, tensor: Far, places: Any, *values: Any) -> Any:
    places = places if isinstance(places, tuple) else (places,)
    made = (
        torch.tensor(place, dtype=None if place else torch.long)
        if isinstance(place, list)
        else place
        for place in places
    )
    return func(tensor, tuple(made), *values)


_OF_FAR: dict[Any, Callable[..., Any]] = {
    Tensor.tolist: _on_host,
    Tensor.storage: _on_host,
    Tensor.untyped_storage: _on_host,
    Tensor.numpy: _refused,
    Tensor.new_tensor: _new_tensor,
    Tensor.__getitem__: _subscript,
    Tensor.__setitem__: _subscript,
}
