"""What makes a dataclass a declaration of options: checked values, a sentence for each field."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T", bound="Options")
N = TypeVar("N")
_Checks = dict[str, tuple[tuple[str, ...] | None, "Within | None"]]
_hints: dict[type[Options], dict[str, object]] = {}
_checked: dict[type[Options], _Checks] = {}


@dataclass(frozen=True)
class Within:
    """Bounds of a number, as in `Annotated[int, Within(at_least=1)]`.

    Attributes:
        at_least: the least value.
        above: what the value must exceed.
        at_most: the largest value.
        below: what the value must fall short of.
    """

    at_least: int | float = -math.inf
    above: int | float = -math.inf
    at_most: int | float = math.inf
    below: int | float = math.inf

    def __contains__(self, value: int | float) -> bool:
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    def __str__(self) -> str:
        bounds = {
            "at least": self.at_least,
            "above": self.above,
            "at most": self.at_most,
            "below": self.below,
        }
        return " and ".join(
            f"{name} {bound:g}" for name, bound in bounds.items() if math.isfinite(bound)
        )


@dataclass(frozen=True)
class Sensible:
    """Values that a page has a reason for: `Annotated[int, Sensible(5, 10, "quadrature.md")]`.

    It is advice: a value outside of them is valid all the same.

    Attributes:
        least: the smallest of them.
        most: the largest of them; infinity where there is none.
        page: the page of docs/ that says why, with its anchor.
        scope: what they hold for, such as "on SmolLM2"; empty for all uses of the setting.
    """

    least: int | float
    most: int | float
    page: str
    scope: str = ""

    def __contains__(self, value: int | float) -> bool:
        return self.least <= value <= self.most

    def __str__(self) -> str:
        if self.least == self.most:
            values = f"{self.least:g}"
        elif math.isinf(self.most):
            values = f"at least {self.least:g}"
        else:
            values = f"{self.least:g} to {self.most:g}"
        return f"{values} {self.scope}".rstrip()


@dataclass(frozen=True)
class Options:
    """The base of every dataclass of options: it refuses values that a field cannot have.

    Recipes and command lines convert values before (`options_from`); in Python a mistyped value is
    found by the type checker, and here where none has run.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name, (words, bounds) in _checks(type(self)).items():
            field_value = getattr(self, name)
            for value in field_value if isinstance(field_value, tuple) else (field_value,):
                if words is not None and isinstance(value, str) and value not in words:
                    raise CircuitsError(unknown(name, value, words))
                if bounds is not None and _is_number(value) and value not in bounds:
                    raise CircuitsError(f"{name} {value}: it must be {bounds}")


def unknown(name: str, value: object, choices: tuple[str, ...]) -> str:
    """The line on a value that is none of the choices.

    Args:
        name: of the field.
        value: what was given.
        choices: what it can be.

    Returns:
        The line.
    """
    return f"unknown {name} {value!r}; known: {', '.join(choices)}"


def require_known(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices, for functions that take one without a dataclass.

    Args:
        name: of the argument.
        value: what was given.
        choices: what it can be, as `get_args` of its Literal gives it.

    Raises:
        CircuitsError: for another value; it names the choices.
    """
    if value not in choices:
        raise CircuitsError(unknown(name, value, choices))


def hints(kind: type[Options]) -> dict[str, object]:
    """The types of a dataclass's fields, with what `Annotated` adds to them.

    Args:
        kind: the dataclass.

    Returns:
        Types by field, in the order of the fields.
    """
    if kind not in _hints:
        types = get_type_hints(kind, include_extras=True)
        _hints[kind] = {field.name: types[field.name] for field in fields(kind)}
    return _hints[kind]


def noted(hint: object, kind: type[N]) -> N | None:
    """What `Annotated` adds to a type, or to a part of a union or tuple.

    Args:
        hint: a type, such as `Annotated[int, Within(at_least=1)] | None`.
        kind: of the note, such as `Within`.

    Returns:
        The first note of that kind; None where there is none.
    """
    for note in getattr(hint, "__metadata__", ()):
        if isinstance(note, kind):
            return note
    inner = get_args(hint) if get_origin(hint) in (Annotated, Union, UnionType, tuple) else ()
    return next((note for part in inner if (note := noted(part, kind)) is not None), None)


def literals(hint: object) -> tuple[str, ...]:
    """The words that a type allows, inside of unions and tuples too.

    Args:
        hint: a type, such as `Strategy | None`.

    Returns:
        The words, in the order of the Literal; none where the type has no Literal.
    """
    if get_origin(hint) is Literal:
        return tuple(str(value) for value in get_args(hint))
    return tuple(value for part in get_args(hint) for value in literals(part))


def sentence(kind: type[Options], name: str) -> str:
    """What a field means, from under `Attributes:` of its class, or of the class it comes from.

    Args:
        kind: a dataclass of options.
        name: one of its fields.

    Returns:
        The sentence, without line breaks.

    Raises:
        TypeError: where the field has none.
    """
    for owner in kind.__mro__:
        text = inspect.cleandoc(vars(owner).get("__doc__") or "")
        _, _, section = text.partition("\nAttributes:\n")
        match = re.search(rf"^    {name}: (.*(?:\n        .*)*)", section, re.MULTILINE)
        if match is not None:
            return " ".join(match[1].split())
    raise TypeError(f"{kind.__name__}.{name} has no sentence under Attributes")


def options_from(kind: type[T], values: Mapping[str, object], source: str = "") -> T:
    """Typed options from values of a file or a command line, which no type checker has seen.

    Args:
        kind: a dataclass of options.
        values: its fields, by name.
        source: where the values are from; errors begin with it.

    Returns:
        The options.

    Raises:
        CircuitsError: for a value that a field cannot have, and a field that is not known.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        line = _refusal(error.errors(), kind)
        raise CircuitsError(f"{source}: {line}" if source else line) from error


def narrowed(options: Options, kind: type[T], **more: object) -> T:
    """Options of another kind, from the fields that both have.

    Args:
        options: of a dataclass that shares fields with `kind`.
        kind: the dataclass wanted.
        more: its other fields.

    Returns:
        The options of that kind.
    """
    shared = hints(type(options)).keys() & hints(kind).keys()
    make: Callable[..., T] = kind
    return make(**{**{name: getattr(options, name) for name in shared}, **more})


_EXPECTED = {
    "int": "it must be a whole number",
    "float": "it must be a number",
    "bool": "it must be true or false",
    "string": "it must be text",
    "tuple": "it must be a list",
    "dataclass": "write its keys below it",
}


def _refusal(errors: Sequence[ErrorDetails], kind: type[Options]) -> str:
    """One line on what pydantic refused first, in the words that `Options` uses.

    errors: of every field, and of every part of a union.
    """
    error = errors[0]
    parts = [part for part in error["loc"] if isinstance(part, str)]
    while len(parts) > 1 and (parts[-1] in ("int", "float") or parts[-1].startswith("literal[")):
        parts.pop()  # which part of a union refused it
    *parents, name = [str(part) for part in parts] or [""]
    prefix, key_path = f"{'.'.join(parents)}: " if parents else "", ".".join(parts)
    if error["type"] == "literal_error":
        allowed = tuple(re.findall(r"'([^']*)'", error["ctx"]["expected"]))
        return prefix + unknown(name, error["input"], allowed)
    if error["type"] == "value_error":
        return f"{key_path + ': ' if key_path else ''}{error['ctx']['error']}"
    if error["type"] == "unexpected_keyword_argument":
        return f"{key_path}: no such key{_known_keys(kind, parents)}"
    expectation = _EXPECTED.get(error["type"].split("_")[0])
    if expectation is None:
        expectation = f"{error['msg'][0].lower()}{error['msg'][1:]}"
        return f"{key_path}: {expectation}" if key_path else expectation
    words = [detail for detail in errors[1:] if detail["type"] == "literal_error"]
    alternatives = [
        detail["ctx"]["expected"] for detail in words if detail["loc"][:-1] == error["loc"][:-1]
    ]
    if alternatives:
        expectation += f", or one of {alternatives[0]}"
    return f"{key_path} {error['input']!r}: {expectation}"


def _checks(kind: type[Options]) -> _Checks:
    """Words and bounds of the fields that have them."""
    if kind not in _checked:
        checks = {
            name: (literals(hint) or None, noted(hint, Within))
            for name, hint in hints(kind).items()
        }
        _checked[kind] = {name: check for name, check in checks.items() if check != (None, None)}
    return _checked[kind]


def _known_keys(kind: type[Options], parents: list[str]) -> str:
    """The keys of the section that the parents lead to."""
    for name in parents:
        inner = hints(kind)[name]
        kinds = [inner, *get_args(inner)]
        kind = next(
            candidate
            for candidate in kinds
            if isinstance(candidate, type) and issubclass(candidate, Options)
        )
    return f"; known: {', '.join(hints(kind))}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
