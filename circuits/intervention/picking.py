"""Some of the things along an axis of a tensor, by indices that are sent to its device at once.

What an accelerator is told one list at a time costs more than what it then does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

_VAIN_CPU, _VAIN_DEVICE = 2**20, 2**24  # bytes


def made_in_vain(stream: Tensor) -> int:
    """How many values of a stream's size may be made for nothing, where that spares picking out
    those that are needed.
    """
    room = _VAIN_CPU if stream.device.type == "cpu" else _VAIN_DEVICE
    return room // (stream.numel() * stream.element_size())


class IndexLists:
    """Lists of indices that a run needs on its device: gathered first, then sent as one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._lists: list[Sequence[int]] = []
        self._sent: Sequence[Int[Tensor, " index"]] | None = None

    def pick(self, indices: Sequence[int]) -> Picked:
        """Note a list; none can be noted any more once the first of them was asked for."""
        assert self._sent is None
        if indices[-1] - indices[0] == len(indices) - 1:
            return Picked(indices, None)
        self._lists.append(indices)
        return Picked(indices, (self, len(self._lists) - 1))

    def sent(self, index: int) -> Int[Tensor, " index"]:
        """The list of that number, on the device."""
        if self._sent is None:
            flat = torch.tensor([i for indices in self._lists for i in indices])
            self._sent = flat.to(self.device).split([len(indices) for indices in self._lists])
        return self._sent[index]


class Picked:
    """Rising indices along an axis; where they stand side by side, taking them copies nothing."""

    def __init__(self, indices: Sequence[int], sent: tuple[IndexLists, int] | None) -> None:
        self._first, self._n, self._sent = indices[0], len(indices), sent

    def __len__(self) -> int:
        return self._n

    def of(self, x: Tensor, dim: int) -> Tensor:
        """What stands there."""
        if self._sent is None:
            return x.narrow(dim, self._first, self._n)
        picker, index = self._sent
        return x.index_select(dim, picker.sent(index))

    def put(self, x: Tensor, dim: int, values: Tensor) -> None:
        """Write it, in place."""
        if self._sent is None:
            x.narrow(dim, self._first, self._n).copy_(values)
            return
        picker, index = self._sent
        x.index_copy_(dim, picker.sent(index), values)
