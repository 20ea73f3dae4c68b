"""Every setting of a dataclass of options in words: its default, what is valid, what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from circuits.options.declared import Options, Sensible, Within, hints, noted, sentence

_PLAIN: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    object: "any value",
    Any: "any value",
}


@dataclass(frozen=True)
class Setting:
    """A field in words.

    name: of the field. default: as it is written; None where it must be given.
    valid: what it can be. sensible: which values a page has a reason for; None where none has.
    meaning: a sentence.
    """

    name: str
    default: str | None
    valid: str
    sensible: Sensible | None
    meaning: str


def settings(kind: type[Options]) -> list[Setting]:
    """The fields that a dataclass declares itself, not those that it inherits.

    Args:
        kind: the dataclass.

    Returns:
        Its fields in their order; a field of its base that has another type or default counts.
    """
    own_fields = vars(kind).get("__annotations__", {})
    return [
        Setting(
            field.name,
            _default(field),
            valid(hints(kind)[field.name]),
            noted(hints(kind)[field.name], Sensible),
            _meaning(kind, field),
        )
        for field in fields(kind)
        if field.name in own_fields
    ]


def valid(hint: object) -> str:
    """What a type allows, in words.

    Args:
        hint: of a field, with `Within` for bounds.

    Returns:
        Such as "a whole number, at least 1, or none".
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = next((part for part in parts[1:] if isinstance(part, Within)), None)
        return valid(parts[0]) if bounds is None else f"{valid(parts[0])}, {bounds}"
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in parts)
    if origin in (Union, UnionType):
        types = [valid(part) for part in parts if part is not type(None)]
        return " or ".join(types) + (", or none" if type(None) in parts else "")
    if origin is tuple or origin is list:
        return f"a list; each {valid(parts[0])}"
    if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return f"names, and for each {valid(parts[1])}"
    if isinstance(hint, type) and issubclass(hint, Options):
        return f"the settings of `{hint.__name__}`"
    return _PLAIN.get(hint) or f"`{getattr(hint, '__name__', hint)}`"


def _default(field: Field[object]) -> str | None:
    value = field.default
    if field.default_factory is not MISSING:
        value = field.default_factory()
    if value is MISSING:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{type(value).__name__}()" if isinstance(value, Options) else str(value)


def _meaning(kind: type[Options], field: Field[object]) -> str:
    return sentence(kind, field.name)
