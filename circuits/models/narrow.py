"""The last layer run only where its output is read.

Behind the last attention no position sees another: where logits are read at a few positions, the
last layer's queries, output matrix and MLP need no others. This is most of a layer's work, both
ways. Keys and values are made everywhere; `View.tail` is the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn


class Narrow:
    """For one block of code, the modules see only some positions and give zeros at all others.

    Hooks on them see whole tensors. rows, columns: of each position to see, none twice, in `batch`
    examples; the modules are given (batch, pos, feature) or (batch pos, feature).
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        batch: int,
        rows: Int[Tensor, " read"],
        columns: Int[Tensor, " read"],
    ) -> None:
        self._modules, self._given = modules, (batch, rows, columns)
        self._before: dict[nn.Module, Any] = {}

    def __enter__(self) -> None:
        for module in self._modules:
            own = vars(module)  # an instance's `forward` goes before its class's
            self._before[module] = own.get("forward")
            own["forward"] = partial(_narrowed, module.forward, *self._given)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for module, before in self._before.items():
            if before is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = before
        self._before.clear()


def _narrowed(
    forward: Callable[[Tensor], Tensor],
    batch: int,
    rows: Int[Tensor, " read"],
    columns: Int[Tensor, " read"],
    x: Tensor,
) -> Tensor:
    flat = x.flatten(0, -2)
    places = rows * (len(flat) // batch) + columns
    some = forward(flat[places])
    whole = some.new_zeros(len(flat), some.shape[-1])
    return whole.index_copy_(0, places, some).view(*x.shape[:-1], -1)
