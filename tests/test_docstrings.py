"""Public functions say what each of their arguments is, in Google style."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import circuits
import tasks


def _functions(public: type | Callable[..., Any]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """A public function, or the public methods that a class of ours defines, by name."""
    if inspect.isroutine(public):
        yield public.__name__, public
    elif inspect.isclass(public):
        for name, member in vars(public).items():
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if inspect.isfunction(function) and not name.startswith("_"):
                yield f"{public.__name__}.{name}", function


def _public() -> dict[str, Callable[..., Any]]:
    return {
        f"{package.__name__}.{name}": function
        for package in (circuits, tasks)
        for public in (getattr(package, name) for name in package.__all__)
        for name, function in _functions(public)
    }


def _without_description(function: Callable[..., Any]) -> list[str]:
    """Parameters of which the docstring's Args say nothing."""
    names = [
        name
        for name in inspect.signature(function).parameters
        if name not in ("self", "cls") and not name.startswith("_")
    ]
    section = re.search(
        r"^Args:\n((?:    .*\n|\n)*)", inspect.getdoc(function) + "\n", re.MULTILINE
    )
    said = re.findall(r"^    \**(\w+): \S", section.group(1), re.MULTILINE) if section else []
    return [name for name in names if name not in said]


def test_every_argument_of_a_public_function_is_described():
    functions = _public()
    assert {"circuits.attribute", "circuits.HookedModel.logits", "tasks.load"} <= functions.keys()
    missing = {name: _without_description(function) for name, function in functions.items()}
    assert not {name: left for name, left in missing.items() if left}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Do it.", ["first", "second"]),
        ("Do it.\n\n    Args:\n        first: one.\n    ", ["second"]),
        ("Do it.\n\n    Args:\n        first: one.\n        second: two.\n    ", []),
        ("Do it.\n\n    Returns:\n        first: no argument.\n    ", ["first", "second"]),
    ],
)
def test_an_argument_without_a_description_is_found(text, missing):
    def function(first: int, *, second: int) -> None: ...

    function.__doc__ = text
    assert _without_description(function) == missing
