"""Objects as bytes, for other processes: whatever their device, their tensors are on the CPU."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def packed(thing: object) -> bytes:
    """Pickle by value what a worker could not import, with all tensors on the CPU.

    Args:
        thing: data, or a callable.

    Returns:
        Its bytes, for `unpacked`.
    """
    from ray import cloudpickle

    base: type[pickle.Pickler] = cloudpickle.CloudPickler
    table: dict[type, Callable[..., object]] = {
        **base.dispatch_table,
        Tensor: _tensor_parts,
        nn.Parameter: _parameter_parts,
    }
    pickler = type("TensorsOnCpu", (base,), {"dispatch_table": table})
    file = io.BytesIO()
    pickler(file, protocol=5).dump(thing)
    return file.getvalue()


def unpacked(data: bytes) -> object:
    """What was packed.

    Args:
        data: from `packed`, in a process that is trusted.

    Returns:
        The object; its tensors are on the CPU.
    """
    return pickle.loads(data)


def _tensor_parts(tensor: Tensor) -> tuple[object, ...]:
    """A tensor by its bytes; NumPy does not know bfloat16."""
    if tensor.layout != torch.strided:
        parts: tuple[object, ...] = tensor.__reduce_ex__(5)
        return parts
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return _tensor, (plain.flatten().view(torch.uint8).numpy(), plain.dtype, tuple(plain.shape))


def _parameter_parts(parameter: nn.Parameter) -> tuple[object, ...]:
    return nn.Parameter, (parameter.data, parameter.requires_grad)


def _tensor(data: NDArray[np.uint8], dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """In torch's own memory, which is aligned: matrix products may round by where they lie."""
    return torch.from_numpy(data).clone().view(dtype).view(shape)
