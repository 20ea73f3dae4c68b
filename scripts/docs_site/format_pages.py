"""The page of file formats: every kind of result file, from the classes that read and write it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from jaxtyping import AbstractArray
from pydantic import BaseModel

from circuits.inspection.kinds import KINDS, Kind

PAGE = "reference/files.md"
_HEAD = """# File formats

Everything that is written here is JSON, but for scores, whose numbers are a `.safetensors` beside
their JSON. Each file says its `kind` and its `schema_version`; `circuits inspect FILE` reads both,
and in Python the class has `load(path)` and `save(path)`. A file of another version is refused by
name. An undefined number is `null`. Keys that are not listed here are refused.

The tables are made from the classes. The JSON Schema behind each is for other programs.
"""
_WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    NoneType: "null",
    object: "any value",
    Any: "any value",
}


def pages() -> dict[str, str]:
    """The page, and the JSON Schema of every kind.

    Returns:
        Contents by path among the site's sources.
    """
    contents = {PAGE: _page()}
    for name, kind in sorted(KINDS.items()):
        schema = kind.file.model_json_schema()
        contents[f"reference/schemas/{name}.json"] = json.dumps(schema, indent=1) + "\n"
    return contents


def _page() -> str:
    lines = [_HEAD, "| kind | version | holds | class | schema |", "|---|---|---|---|---|"]
    for name, kind in sorted(KINDS.items()):
        lines.append(
            f"| [`{name}`](#{name}) | {kind.file.SCHEMA_VERSION} | {kind.what} | "
            f"`{kind.file.__module__}.{kind.file.__qualname__}` | [JSON]({_schema(name)}) |"
        )
    lines.append("")
    for name, kind in sorted(KINDS.items()):
        lines += _section(f"## {name} {{ #{name} }}", kind.file)
    lines += ["## Parts", "", "What the files above are made of.", ""]
    for record in _parts(KINDS):
        lines += _section(f"### {record.__name__} {{ #{record.__name__} }}", record)
    return "\n".join(lines)


def _schema(name: str) -> str:
    return f"schemas/{name}.json"


def _section(title: str, kind: type) -> list[str]:
    text = inspect.getdoc(kind) or ""
    summary = " ".join(text.partition("\n\n")[0].split())
    hints = _fields(kind)
    if not hints:
        return [title, "", summary, ""]
    meanings = meanings_of(text, hints)
    rows = [
        f"| `{name}` | {in_words(hint)} | {meanings.get(name, '').replace('|', '&#124;')} |"
        for name, hint in hints.items()
    ]
    return [title, "", summary, "", "| key | value | meaning |", "|---|---|---|", *rows, ""]


def _fields(kind: type) -> dict[str, object]:
    """Types of the keys that a part has in a file."""
    hints = get_type_hints(kind, include_extras=True)
    if issubclass(kind, BaseModel):
        return {name: hints[name] for name in kind.model_fields}
    if dataclasses.is_dataclass(kind):
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {}


def _parts(kinds: Mapping[str, Kind]) -> list[type]:
    """Every class that a file holds, itself or within another, by name."""
    files: list[type] = [kind.file for kind in kinds.values()]
    records: dict[type, None] = {}
    pending = list(files)
    while pending:
        for hint in _fields(pending.pop()).values():
            for record in _classes(hint):
                if record not in records:
                    records[record] = None
                    pending.append(record)
    return sorted(records.keys() - set(files), key=lambda kind: kind.__name__.lower())


def _classes(hint: object) -> Iterator[type]:
    """The records in a type."""
    if isinstance(hint, type) and not get_args(hint) and _is_record(hint):
        yield hint
    for argument in get_args(hint):
        yield from _classes(argument)


def _is_record(kind: type) -> bool:
    return issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)


def in_words(hint: object) -> str:
    """What stands in the file for a type.

    Args:
        hint: a field's type.

    Returns:
        Words, with links to the parts that are named.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return in_words(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, UnionType):
        return " or ".join(in_words(argument) for argument in arguments)
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return f"numbers by {hint.dim_str.strip() or 'nothing: one'}"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return f"names, for each {in_words(arguments[1])}"
    if origin in (tuple, list, frozenset, set):
        if origin is tuple and Ellipsis not in arguments:
            return "list of " + " and ".join(in_words(argument) for argument in arguments)
        return f"list of {in_words(arguments[0])}"
    if isinstance(hint, type) and _is_record(hint):
        return f"[{hint.__name__}](#{hint.__name__})"
    wording = next((words for kind, words in _WORDS.items() if kind is hint), None)
    return wording or f"{getattr(hint, '__name__', hint)}"


def meanings_of(text: str, names: Mapping[str, object]) -> dict[str, str]:
    """What a class's docstring says of its fields.

    Args:
        text: the docstring; `name: meaning`, or `one, other: meaning` of several.
        names: the fields.

    Returns:
        The meaning by name; nothing for a field that the docstring does not name.
    """
    body = " ".join(text.partition("\n\n")[2].split())
    word = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    heads = [*re.finditer(rf"(?<![\w.])((?:{word})(?:, (?:{word}))*): ", body)]
    ends = [*(head.start() for head in heads), len(body)][1:]
    meanings: dict[str, str] = {}
    for head, end in zip(heads, ends, strict=True):
        for name in head[1].split(", "):
            meanings.setdefault(name, body[head.end() : end].strip().rstrip("."))
    return meanings
