"""How accelerate spreads a model's weights over several devices of one kind, and how it is told to.

It fills one device after the other, in the order in which a model's parts are declared: embeddings,
layers, unembedding. On the first, room for the largest part that is still to be placed stays empty;
all but the last take an even share and a part more at most. Within that, the limits that it is
given decide. It counts the codes of quantised layers without their scales, and takes nine tenths of
each limit then. tests/planning compares what is said here with what it does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from torch import Tensor, nn
from transformers import PreTrainedModel

from circuits.models.language import tower
from circuits.models.quantised import QuantisedLinear, kept_as
from circuits.planning.counter import storages

_ROOM = 1.25  # of the largest part, beside an even share
_OF_QUANTISED = 0.9  # of each limit


@dataclass(frozen=True)
class Parts:
    """Bytes of what is put on a device as a whole.

    first: embeddings, an unembedding that shares their weights, and what else is no layer. layers:
    in their order. last: an unembedding of its own. counted: what accelerate takes `layers` for.
    allowed: the share of a limit that it uses.
    """

    first: int = 0
    layers: tuple[int, ...] = ()
    last: int = 0
    counted: tuple[int, ...] = ()
    allowed: float = 1.0

    @classmethod
    def of(cls, model: PreTrainedModel) -> Parts:
        """Measure a decoder-only model.

        Args:
            model: its weights need no data.

        Returns:
            Its parts; no layers, where they do not stand in a row.
        """
        inside = model.get_submodule(path) if (path := tower(model)) else model
        n_layers = model.config.get_text_config().num_hidden_layers
        module_lists = (module for module in inside.modules() if isinstance(module, nn.ModuleList))
        blocks = list(next((modules for modules in module_lists if len(modules) == n_layers), ()))
        layers = [_size([*block.parameters(), *block.buffers()]) for block in blocks]
        scales = [
            _size(
                [module.scales for module in block.modules() if isinstance(module, QuantisedLinear)]
            )
            for block in blocks
        ]
        total = _size([*model.parameters(), *model.buffers()])
        shared = {id(x) for x in model.get_input_embeddings().parameters()}
        ends = model.get_output_embeddings().parameters()
        last = _size([x for x in ends if id(x) not in shared])
        return cls(
            total - sum(layers) - last,
            tuple(layers),
            last,
            tuple(size - more for size, more in zip(layers, scales, strict=True)),
            1.0 if kept_as(model) is None else _OF_QUANTISED,
        )


@dataclass(frozen=True)
class Spread:
    """A model over several devices.

    layers: how many each has. weights: bytes on each. limits: what accelerate may be told that each
    holds, so that it comes out so.
    """

    layers: tuple[int, ...]
    weights: tuple[int, ...]
    limits: tuple[int, ...]


@lru_cache(maxsize=64)
def spreads(parts: Parts, count: int) -> tuple[Spread, ...]:
    """Every number of layers that the first of several devices can have, the others sharing evenly.

    Args:
        parts: of the model.
        count: devices, at least 2.

    Returns:
        Spreads over all of them, with fewer and fewer layers on the first.
    """
    return tuple(_spreads(parts, count))


def _spreads(parts: Parts, count: int) -> Iterator[Spread]:
    sizes, n_layers = parts.counted, len(parts.layers)
    if not n_layers:
        return
    total = parts.first + sum(sizes) + parts.last
    share = total // count + int(_ROOM * max(parts.first, parts.last, *sizes))
    share = int(parts.allowed * share)
    for n_first in range(n_layers - 1, -1, -1):
        rest = [*sizes[n_first:], parts.last]
        numbers = _evenly(rest, count - 1)
        if numbers is None:
            continue
        layers = [n_first, *numbers]
        layers[-1] -= 1  # the unembedding is no layer
        ends = [sum(layers[:device]) for device in range(count + 1)]
        pieces = [slice(*pair) for pair in pairwise(ends)]
        beside = [parts.first, *[0] * (count - 2), parts.last]
        loads = [sum(sizes[piece]) + more for piece, more in zip(pieces, beside, strict=True)]
        loads[0] += max(rest)
        # Half a layer more, for sizes are rounded when they are written down.
        limits = [size + min(sizes) // 2 for size in loads]
        if max(limits[:-1]) <= share:
            weights = [
                sum(parts.layers[piece]) + more for piece, more in zip(pieces, beside, strict=True)
            ]
            max_memory = (int(limit / parts.allowed) for limit in limits)
            yield Spread(tuple(layers), tuple(weights), tuple(max_memory))


def _evenly(sizes: Sequence[int], count: int) -> list[int] | None:
    """How many of some parts, in their order, each of several devices takes, so that the fullest
    has least; None where there is nothing for one of them.
    """

    def filled(most: int) -> list[int]:
        numbers, load = [0], 0
        for size in sizes:
            if load + size > most:
                numbers.append(0)
                load = 0
            numbers[-1] += 1
            load += size
        return numbers

    low = max(sizes)
    least = low + bisect_left(
        range(low, sum(sizes) + 1), True, key=lambda x: len(filled(x)) <= count
    )
    numbers = filled(least)
    return numbers if len(numbers) == count else None


def _size(tensors: list[Tensor]) -> int:
    return sum(storages(tensors).values())
