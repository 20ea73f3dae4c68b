"""Tensors that stay in their file: pages of it are read when they are looked at.

Such a tensor is used as any other. What has been looked at stays in this process's memory until
`let_go`, which whoever walks over a large tensor block by block calls after each block. Nothing is
lost by it: the pages are read again when they are wanted. Nobody writes to such a tensor; one that
was written to all the same is a tensor in memory from then on, and is not let go of.
"""

from __future__ import annotations

import json
import math
import mmap
import weakref
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

BLOCK = 2**23
"""Numbers of a large tensor that are looked at or written at a time: 32 MiB of float32."""
_DROP = getattr(mmap, "MADV_DONTNEED", None)  # no such call on Windows
_maps: dict[int, mmap.mmap] = {}  # by the id of the tensor, for as long as it is there


def mapped(path: Path, shape: tuple[int, ...], offset: int = 0) -> Tensor:
    """A float32 tensor in a file; the file may lose its name, but not its bytes, while it is used.

    Args:
        path: the file, which holds all of it.
        shape: of the tensor.
        offset: bytes before its first number, a multiple of 4.

    Returns:
        The tensor, of which nothing is read yet.
    """
    count = math.prod(shape)
    if not count:
        return torch.zeros(shape)
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), offset + 4 * count, access=mmap.ACCESS_COPY)
    tensor = torch.frombuffer(memory, dtype=torch.float32, count=count, offset=offset).view(shape)
    _maps[id(tensor)] = memory
    weakref.finalize(tensor, _maps.pop, id(tensor), None)
    return tensor


def let_go(tensor: Tensor) -> None:
    """Give back the memory of what was looked at in a tensor of `mapped`; of others nothing.

    Args:
        tensor: as `mapped` gave it, not a part of it.
    """
    memory = _maps.get(id(tensor))
    if memory is not None and _DROP is not None and not tensor._version:
        memory.madvise(_DROP)


def columns(tensor: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Walk over a tensor of many examples, some numbers of every example at a time.

    Args:
        tensor: examples first; in memory, or of `mapped`.

    Yields:
        Which numbers of an example, taken as one row of them, and these of every example.
    """
    flat = tensor.flatten(1)
    count = flat.shape[1]
    width = max(1, BLOCK // max(1, len(flat)))
    for start in range(0, count, width):
        part = slice(start, min(start + width, count))
        yield part, flat[:, part]
        if width < count:
            let_go(tensor)


def rows(tensor: Tensor) -> Iterator[Tensor]:
    """Walk over a tensor of many examples, some examples at a time.

    Args:
        tensor: examples first; in memory, or of `mapped`.

    Yields:
        Examples, in order.
    """
    at_once = max(1, BLOCK // max(1, math.prod(tensor.shape[1:])))
    for part in tensor.split(at_once):
        yield part
        if at_once < len(tensor):
            let_go(tensor)


# -- as safetensors lays them out


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write what `safetensors.torch.save_file` would, to the byte, with no copy in memory.

    Args:
        path: the file.
        tensors: by name; float32, on the CPU.
    """
    ordered = sorted(tensors.items())
    entries, end = {}, 0
    for name, tensor in ordered:
        start, end = end, end + 4 * tensor.numel()
        entries[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _, tensor in ordered:
            if tensor.dtype != torch.float32:
                raise TypeError(f"{tensor.dtype} in {path}")
            for part in rows(tensor):
                file.write(part.contiguous().numpy().data)


def place_of(path: Path, name: str) -> tuple[tuple[int, ...], int]:
    """Where a float32 tensor stands in a safetensors file, which has been opened as one before.

    Args:
        path: the file.
        name: of the tensor.

    Returns:
        Its shape, and the bytes before its first number.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
    return tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
