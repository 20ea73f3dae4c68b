"""Outputs of operations on tensors without data, made once for each signature.

What an operation gives there is a shape, which PyTorch works out in Python for most of them: a
model's layers would do so again and again for the same shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

_Key = tuple[object, ...]


@dataclass(frozen=True)
class _Fresh:
    """A tensor with a storage of its own, which it fills."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    def new(self) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")


class Remembered:
    """What operations gave so far, by function and arguments."""

    def __init__(self) -> None:
        self._known: dict[_Key, _Fresh | tuple[_Fresh | None, ...] | None] = {}

    def output(
        self, function: OpOverload, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> object:
        """What a function gives; of tensors with data, and of those that share some, by calling it.

        Args:
            function: no view.
            args: of it.
            kwargs: of it.

        Returns:
            New tensors.
        """
        key = (function, _signature(args), _signature(tuple(kwargs.items())))
        try:
            recipe = self._known[key]
        except KeyError:
            output = function(*args, **kwargs)
            self._known[key] = _made_anew((args, kwargs), output)
            return output
        except TypeError:  # what cannot be a key
            return function(*args, **kwargs)
        if recipe is None:
            return function(*args, **kwargs)
        if isinstance(recipe, _Fresh):
            return recipe.new()
        return tuple(None if fresh is None else fresh.new() for fresh in recipe)


def _signature(value: object) -> object:
    """What of an argument decides on an output's shape: equal signatures, equal outputs."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, list | tuple):
        return tuple(map(_signature, value))
    return type(value), value


def _made_anew(inputs: object, output: object) -> _Fresh | tuple[_Fresh | None, ...] | None:
    """How an output is made without its function; None where it shares storage or holds data."""
    shared = {
        id(leaf.untyped_storage()) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)
    }
    outputs = output if isinstance(output, tuple) else (output,)
    recipes: list[_Fresh | None] = []
    for value in outputs:
        if value is None:
            recipes.append(None)
            continue
        if (
            not isinstance(value, Tensor)
            or not value.is_meta
            or id(value.untyped_storage()) in shared
        ):
            return None
        fresh = _Fresh(value.shape, value.stride(), value.dtype)
        if fresh.new().untyped_storage().nbytes() != value.untyped_storage().nbytes():
            return None
        recipes.append(fresh)
    return tuple(recipes) if isinstance(output, tuple) else recipes[0]
