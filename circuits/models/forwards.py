"""Modules that run other code for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import nn


@contextmanager
def replaced_forwards(forwards: Mapping[nn.Module, Callable[..., object]]) -> Iterator[None]:
    """For one block of code, modules run other code in place of their `forward`.

    Hooks on them run as ever. A module that had a `forward` of its own, as accelerate gives it one,
    has it again afterwards.

    Args:
        forwards: what each module runs.

    Yields:
        Nothing; on exit the modules run as before.
    """
    own = {module: vars(module).get("forward") for module in forwards}
    for module, forward in forwards.items():  # an instance's `forward` goes before its class's
        vars(module)["forward"] = forward
    try:
        yield
    finally:
        for module, before in own.items():
            if before is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = before
