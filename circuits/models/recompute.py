"""Layers that keep what goes in and nothing else, and are run again in the backward pass.

The first run of such a layer makes no graph. The backward pass runs it again, with one, hooks in
place, and goes on through that graph: what hooks attach to tensors in the second run sees their
gradients, and hooks that are wanted for that alone are called in the second run only (`in_graph` of
`Hooks`). The operations and the numbers are the same, and so are the gradients. The last matrix of
an MLP is not multiplied again where its output is only added to the stream: a sum's gradient does
not look at what is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Cache
from transformers.pytorch_utils import Conv1D

from circuits.models.forwards import replaced_forwards
from circuits.runtime.autograd import Context


@dataclass(frozen=True, eq=False)
class Recomputable:
    """What of a model can be run again.

    layers: all but the last, whose graph the backward pass needs at once.
    added: last matrices of MLPs whose output is only added to the stream.
    """

    layers: tuple[nn.Module, ...]
    added: tuple[nn.Module, ...]


@contextmanager
def recomputed(parts: Recomputable, around: AbstractContextManager[object]) -> Iterator[None]:
    """For one forward pass, layers keep only what goes into them; the backward pass comes later.

    Args:
        parts: of the model.
        around: what stands around the pass, hooks for one; entered again while a layer is run
            again. Hooks on the layers themselves stand outside of what is run again, and are called
            once.

    Yields:
        Nothing; on exit the layers run as before.
    """
    forwards = {}
    for layer in parts.layers:
        inside = set(layer.modules())
        added = [module for module in parts.added if module in inside and _plain(module)]
        forwards[layer] = partial(_keeping_inputs, layer.forward, added, around)
    with replaced_forwards(forwards):
        yield


def _plain(module: nn.Module) -> bool:
    """Whether a module is its matrix and nothing else: no codes, no adapter, no offloading."""
    return type(module) in (nn.Linear, Conv1D) and "forward" not in vars(module)


def _keeping_inputs(
    forward: Callable[..., object],
    added: Sequence[nn.Module],
    around: AbstractContextManager[object],
    *args: object,
    **kwargs: object,
) -> object:
    """A layer's forward. The stream is its first output; the others have no gradient."""
    arguments = dict(enumerate(args)) | kwargs
    leading = {k: x for k, x in arguments.items() if isinstance(x, Tensor) and x.requires_grad}
    if not (torch.is_grad_enabled() and leading):
        return forward(*args, **kwargs)
    # Not what leads, or the graph would hold it; of a cache a copy, for the model's own will hold
    # the last layer's keys, whose graph leads here.
    constant_arguments = {
        k: _own(x) if isinstance(x, Cache) else x for k, x in arguments.items() if k not in leading
    }
    leading_names, n_args = list(leading), len(args)
    beside: list[object] = []

    def run(*inputs: Tensor) -> Tensor:
        everything = constant_arguments | dict(zip(leading_names, inputs, strict=True))
        # A cache would take this run's keys and values, and the next run find them there.
        everything = {k: _own(x) if isinstance(x, Cache) else x for k, x in everything.items()}
        outputs = forward(
            *(everything[index] for index in range(n_args)),
            **{k: x for k, x in everything.items() if isinstance(k, str)},
        )
        if isinstance(outputs, tuple):
            beside[:] = outputs
        stream = beside[0] if beside else outputs
        assert isinstance(stream, Tensor)
        return stream

    def run_again(*inputs: Tensor) -> Tensor:
        with around, _not_multiplied(added):
            stream = run(*inputs)
        beside.clear()
        return stream

    twice: Callable[..., Tensor] = _Again.apply
    stream = twice(run, run_again, *leading.values())
    others = beside[1:] if beside else None
    beside.clear()
    return stream if others is None else (stream, *others)


def _own(cache: Cache) -> Cache:
    """The same keys and values in a cache that can be extended by itself."""
    other = copy(cache)
    other.layers = [copy(layer) for layer in cache.layers]
    return other


class _Again(torch.autograd.Function):
    """A run without a graph, and in the backward pass the same run with one."""

    @staticmethod
    def forward(
        ctx: Context,
        run: Callable[..., Tensor],
        run_again: Callable[..., Tensor],
        *inputs: Tensor,
    ) -> Tensor:
        ctx.run_again = run_again
        ctx.save_for_backward(*inputs)
        return run(*inputs)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            stream = ctx.run_again(*inputs)
        gradients = torch.autograd.grad(stream, inputs, gradient, allow_unused=True)
        return None, None, *gradients


def _not_multiplied(modules: Sequence[nn.Module]) -> AbstractContextManager[None]:
    """For one block of code, modules give zeros, with the gradient of what they would give."""
    return replaced_forwards({module: partial(_Zeros.apply, _matrix(module)) for module in modules})


def _matrix(module: nn.Module) -> Float[Tensor, "output input"]:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().T if isinstance(module, Conv1D) else weight.detach()


class _Zeros(torch.autograd.Function):
    """Zeros for a product, and the product's gradient."""

    @staticmethod
    def forward(ctx: Context, matrix: Tensor, x: Tensor) -> Tensor:
        ctx.matrix, ctx.shape = matrix, x.shape
        return x.new_zeros(1).expand(*x.shape[:-1], len(matrix))

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient.flatten(0, -2).mm(ctx.matrix).view(ctx.shape)
