"""Module hooks for one block of code: put in on entry, taken out on exit, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from circuits.models.placement import brought

Edit = Callable[[Tensor], Tensor | None]
_PreHook = Callable[
    [nn.Module, tuple[object, ...], dict[str, object]],
    tuple[tuple[object, ...], dict[str, object]] | None,
]


class Hooks:
    """Hooks that see one tensor and may return another in its place.

    `before` sees a module's first tensor argument, `after` its (first) output. Hooks on one module
    run in the order in which they were added. A returned tensor must be a new one: an edit in place
    of a norm's input would change the residual stream as well.
    """

    def __init__(self) -> None:
        self._wanted: list[tuple[nn.Module, bool, Edit]] = []
        self._handles: list[RemovableHandle] = []

    def before(self, module: nn.Module, edit: Edit, *, in_graph: bool = False) -> None:
        """Call `edit` on what goes into a module.

        Args:
            module: the module.
            edit: is given the first tensor argument; returns another, or None to change nothing.
            in_graph: call it only while a graph is made for a backward pass; of a layer that is
                run twice (`models/recompute.py`), that is the second time.
        """
        self._wanted.append((module, True, _in_graph(edit) if in_graph else edit))

    def after(self, module: nn.Module, edit: Edit, *, in_graph: bool = False) -> None:
        """Call `edit` on what comes out of a module.

        Args:
            module: the module.
            edit: is given the (first) output; returns another, or None to change nothing.
            in_graph: as for `before`.
        """
        self._wanted.append((module, False, _in_graph(edit) if in_graph else edit))

    def replace(self, module: nn.Module, make: Callable[[Tensor], Tensor]) -> None:
        """Replace a module's output without computing it.

        Args:
            module: the module; it is given no rows.
            make: makes the output; it is given the output of no rows.
        """
        self.before(module, lambda x: x[:0])
        self.after(module, make)

    def for_part(self, part_index: int, parts: int) -> Hooks:
        """Hooks that run with these and see one part of a batch; they edit nothing.

        Args:
            part_index: which of the equal parts, from 0.
            parts: how many parts there are.

        Returns:
            Hooks to add recordings to; they need no `with` of their own.
        """
        return _Part(self, part_index, parts)

    def __enter__(self) -> Hooks:
        for module, is_before, edit in self._wanted:
            handle = (
                module.register_forward_pre_hook(_before(edit), with_kwargs=True)
                if is_before
                else module.register_forward_hook(_after(edit))
            )
            self._handles.append(handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._handles:
            self._handles.pop().remove()


class _Part(Hooks):
    def __init__(self, hooks: Hooks, part_index: int, parts: int) -> None:
        super().__init__()
        self._hooks, self._part_index, self._parts = hooks, part_index, parts

    def before(self, module: nn.Module, edit: Edit, *, in_graph: bool = False) -> None:
        self._hooks.before(module, self._see(edit), in_graph=in_graph)

    def after(self, module: nn.Module, edit: Edit, *, in_graph: bool = False) -> None:
        self._hooks.after(module, self._see(edit), in_graph=in_graph)

    def _see(self, edit: Edit) -> Edit:
        def see(x: Tensor) -> None:
            edit(
                x.chunk(self._parts)[self._part_index]
            )  # rows are examples, or all their positions (OPT)

        return see


def _edited(module: nn.Module, edit: Edit, x: object) -> Tensor | None:
    """The edit of a tensor that is brought to the model's home and back, in the graph if there is
    one: a gradient that is watched there is the branch's.
    """
    assert isinstance(x, Tensor)
    there = brought(module, x)
    new = edit(there)
    if there.device == x.device:
        return new
    return (there if new is None else new).to(x.device)


def _in_graph(edit: Edit) -> Edit:
    return lambda x: edit(x) if torch.is_grad_enabled() else None


def _before(edit: Edit) -> _PreHook:
    def hook(
        module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]] | None:
        if args:
            new = _edited(module, edit, args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        new = _edited(module, edit, kwargs["hidden_states"])
        return None if new is None else (args, {**kwargs, "hidden_states": new})

    return hook


def _after(edit: Edit) -> Callable[[nn.Module, tuple[object, ...], object], object]:
    def hook(module: nn.Module, __: tuple[object, ...], output: object) -> object:
        if isinstance(output, tuple):
            new = _edited(module, edit, output[0])
            return None if new is None else (new, *output[1:])
        return _edited(module, edit, output)

    return hook
