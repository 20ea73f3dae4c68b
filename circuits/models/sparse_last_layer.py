"""The last layer run only where its output is read.

Behind the last attention no position sees another: where logits are read at a few positions, the
last layer's queries, output matrix and MLP need no others. This is most of a layer's work, both
ways. Keys and values are made everywhere; `View.tail` is the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from jaxtyping import Int
from torch import Tensor, nn

from circuits.models.forwards import replaced_forwards


@contextmanager
def sparse_last_layer(
    modules: Sequence[nn.Module],
    batch: int,
    example_index: Int[Tensor, " read"],
    position: Int[Tensor, " read"],
) -> Iterator[None]:
    """For one block of code, modules see only some positions and give zeros at all others.

    Hooks on them see whole tensors.

    Args:
        modules: each is given (batch, pos, feature) or (batch pos, feature).
        batch: number of examples.
        example_index: which example each position to see is of.
        position: where in it; no position twice.

    Yields:
        Nothing; on exit the modules run as before.
    """
    reads = (batch, example_index, position)
    with replaced_forwards({module: partial(_at, module.forward, *reads) for module in modules}):
        yield


def _at(
    forward: Callable[[Tensor], Tensor],
    batch: int,
    example_index: Int[Tensor, " read"],
    position: Int[Tensor, " read"],
    x: Tensor,
) -> Tensor:
    flat = x.flatten(0, -2)
    rows = (example_index * (len(flat) // batch) + position).to(flat.device)
    some = forward(flat[rows])
    output = some.new_zeros(len(flat), some.shape[-1])
    return output.index_copy_(0, rows, some).view(*x.shape[:-1], -1)
