"""Public functions say what they take, give and raise, and take eight things at most."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
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


def _packages() -> Iterator[ModuleType]:
    """Those that the site's Python reference shows: verbs have their help, the report is a file."""
    yield from (circuits, tasks)
    for module in pkgutil.iter_modules(circuits.__path__, "circuits."):
        if module.ispkg and module.name not in ("circuits.cli", "circuits.report"):
            yield importlib.import_module(module.name)


def _public() -> dict[str, Callable[..., Any]]:
    return {
        f"{package.__name__}.{name}": function
        for package in _packages()
        for public in (getattr(package, name) for name in getattr(package, "__all__", ()))
        for name, function in _functions(public)
    }


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return [one for one in parameters if one.name not in ("self", "cls") and one.name[0] != "_"]


def _section(function: Callable[..., Any], title: str) -> str:
    """What a docstring says under a title, with its indentation."""
    found = re.search(
        rf"^{title}:\n((?:    .*\n|\n)*)", inspect.getdoc(function) + "\n", re.MULTILINE
    )
    return found[1] if found else ""


def _without_description(function: Callable[..., Any]) -> list[str]:
    """Parameters of which the docstring's Args say nothing."""
    said = re.findall(r"^    \**(\w+): \S", _section(function, "Args"), re.MULTILINE)
    return [one.name for one in _parameters(function) if one.name not in said]


def _says_what_it_gives(function: Callable[..., Any]) -> bool:
    """One of a single argument, or of none, may say it in its first line."""
    given = inspect.signature(function).return_annotation
    silent = given in (None, "None", inspect.Signature.empty) or len(_parameters(function)) < 2
    return silent or bool(_section(function, "Returns") or _section(function, "Yields"))


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function's own body: what it defines inside raises in its own name."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
        ):
            yield child
            yield from _within(child)


def _raises_unsaid(function: Callable[..., Any]) -> bool:
    """It makes an error of its own, and the docstring's Raises do not say so."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    made = any(
        isinstance(node, ast.Raise) and node.exc is not None
        for node in _within(ast.parse(source).body[0])
    )
    return made and not _section(function, "Raises")


def _many(function: Callable[..., Any]) -> bool:
    """More than eight parameters, `**settings` not counted."""
    return len([one for one in _parameters(function) if one.kind != one.VAR_KEYWORD]) > 8


def test_every_argument_of_a_public_function_is_described():
    functions = _public()
    some = {"circuits.attribute", "circuits.HookedModel.logits", "tasks.load"}
    assert some | {"circuits.graph.Units.find", "circuits.plot.draw"} <= functions.keys()
    missing = {name: _without_description(function) for name, function in functions.items()}
    assert not {name: left for name, left in missing.items() if left}


def test_every_public_function_says_what_it_gives():
    assert not [name for name, function in _public().items() if not _says_what_it_gives(function)]


def test_every_public_function_says_what_it_raises():
    functions = _public()
    assert sum(bool(_section(function, "Raises")) for function in functions.values()) > 50
    assert not [name for name, function in functions.items() if _raises_unsaid(function)]


def test_no_public_function_takes_more_than_eight_things():
    assert not [name for name, function in _public().items() if _many(function)]


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


@pytest.mark.parametrize(
    ("text", "says"),
    [("Make it.", False), ("Make it.\n\n    Returns:\n        It.\n    ", True)],
)
def test_a_result_without_a_description_is_found(text, says):
    def function(first: int, second: int) -> int: ...

    function.__doc__ = text
    assert _says_what_it_gives(function) is says


def test_an_error_without_a_description_is_found():
    def silent(size: int) -> None:
        """Do it."""
        if size < 0:
            raise ValueError(size)

    def passes_on(size: int) -> None:
        """Do it."""
        try:
            silent(size)
        except ValueError:
            raise

    def says(size: int) -> None:
        """Do it.

        Raises:
            ValueError: of a size below 0.
        """
        raise ValueError(size)

    assert [_raises_unsaid(one) for one in (silent, passes_on, says)] == [True, False, False]


def test_a_ninth_parameter_is_found():
    def eight(a, b, c, d, *, e, f, g, h, **settings): ...
    def nine(a, b, c, d, *, e, f, g, h, i): ...

    assert _many(nine) and not _many(eight)
