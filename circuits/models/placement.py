"""Where the parts of a model are, where accelerate has put them on several devices.

Sources of every layer meet readers of every layer, so what is recorded of a run, and the weights
that it is multiplied with, come together on one device, the model's home: that of its embedding.
Hooks bring what they see there and what they return back, a layer's weights are brought when they
are read, and nothing of them is kept. Offloaded weights are on the meta device but for the moment
in which their module runs; they are read from where accelerate keeps them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from circuits.models.forwards import replaced_forwards

_HOME = "_home"


def home(model: nn.Module) -> torch.device:
    """Where the parts of a model come together.

    Args:
        model: as loaded.

    Returns:
        Where its first weights run, which are the embedding's.
    """
    first = next(module for module in model.modules() if [*module.parameters(recurse=False)])
    tensor = next(first.parameters(recurse=False))
    if not tensor.is_meta:
        return tensor.device
    return torch.device(first._hf_hook.execution_device)  # type: ignore[arg-type, union-attr]


def settle(model: nn.Module) -> None:
    """Note on every module what its model's home is, where accelerate has spread the model.

    Args:
        model: as loaded.
    """
    if getattr(model, "hf_device_map", None) is not None:
        where = home(model)
        for module in model.modules():
            vars(module)[_HOME] = where


def brought(module: nn.Module, x: Tensor) -> Tensor:
    """A tensor of a module, on the home of its model.

    Args:
        module: of the model.
        x: of it, or of what goes through it.

    Returns:
        The same tensor where the model is on one device.
    """
    home = vars(module).get(_HOME)
    return x if home is None else x.to(home)


def tensor_of(module: nn.Module, name: str) -> Tensor | None:
    """A module's parameter or buffer with its data, on the home of its model.

    Args:
        module: of the model.
        name: of the tensor.

    Returns:
        The tensor, detached; None where the module has none of that name.
    """
    tensor = getattr(module, name, None)
    if not isinstance(tensor, Tensor):
        return None
    if tensor.is_meta and vars(module).get(_HOME) is not None:
        from accelerate.utils import align_module_device

        with align_module_device(module):
            tensor = getattr(module, name)
    return brought(module, tensor.detach())


def through(module: nn.Module, x: Tensor) -> Tensor:
    """What a module makes of a tensor, without the hooks on it and where the tensor is."""
    output: Tensor = module.forward(x)
    return output.to(x.device)


def unhooked(module: nn.Module) -> AbstractContextManager[None]:
    """For one block of code, a module runs without accelerate's moving of weights and inputs.

    Args:
        module: of the model.

    Returns:
        The block, for `with`.
    """
    plain = getattr(module, "_old_forward", None)
    return replaced_forwards({} if plain is None else {module: plain})
