"""Parts of a model that need not run again: they give back what they gave before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from circuits.models.forwards import replaced_forwards


class CachedModules:
    """The outputs of some modules in one run, to be given back in later runs.

    Only the first tensor of an output is read by the layers that follow; it is repeated along the
    batch axis for runs of several copies.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules = list(modules)
        self._outputs: dict[nn.Module, object] = {}

    def copy(self) -> CachedModules:
        """The same outputs, to be replaced by those of another run where that computes them."""
        other = CachedModules(self._modules)
        other._outputs = dict(self._outputs)
        return other

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Remember the outputs of a run inside the block."""
        handles = [module.register_forward_hook(self._keep) for module in self._modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def skipping(
        self, modules: Iterable[nn.Module], copies: int = 1
    ) -> AbstractContextManager[None]:
        """Inside the block these modules compute nothing; hooks on them still run."""
        outputs = {module: _map_first(self._outputs[module], copies) for module in modules}
        return replaced_forwards(
            {module: partial(_give, output) for module, output in outputs.items()}
        )

    def widest(self, modules: Sequence[nn.Module]) -> nn.Module | None:
        """The first before the last that gives just what the last does, nothing added to it."""
        for module in modules[:-1]:
            if torch.equal(_first(self._outputs[module]), _first(self._outputs[modules[-1]])):
                return module
        return None

    def tensors(self) -> Iterator[Tensor]:
        """All that it remembers."""
        for output in self._outputs.values():
            parts = output if isinstance(output, tuple) else (output,)
            yield from (part for part in parts if isinstance(part, Tensor))

    def _keep(self, module: nn.Module, _: object, output: object) -> None:
        self._outputs[module] = output


def _repeated(tensor: Tensor, copies: int) -> Tensor:
    """Copies of a batch one after another along its axis."""
    return tensor if copies == 1 else tensor.repeat(copies, *(1,) * (tensor.ndim - 1))


def _give(output: object, *_: object, **__: object) -> object:
    return output


def _first(output: object) -> Tensor:
    tensor = output[0] if isinstance(output, tuple) else output
    assert isinstance(tensor, Tensor)
    return tensor


def _map_first(output: object, copies: int) -> object:
    if isinstance(output, tuple):
        return (_repeated(_first(output), copies), *output[1:])
    return _repeated(_first(output), copies)
