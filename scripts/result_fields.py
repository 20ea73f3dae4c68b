"""Write tests/scripts/result_fields.json: every key of every result file, as the classes have them.

It is the memory of what a schema version can hold. A kind whose files of before could no longer be
read needs a higher `SCHEMA_VERSION`, so that they are refused by name; until it has one, nothing is
written. A key that is new and may be missing needs none.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from circuits.inspection.kinds import KINDS
from circuits.runtime.files import read_json, write_text
from circuits.runtime.result_file import ResultFile

RECORD = Path(__file__).parents[1] / "tests" / "scripts" / "result_fields.json"

Type = str | dict[str, list["Type"]]
"""A name, or {"list": what it holds} and {"names": what each stands for}."""
Keys = dict[str, list[Type]]
"""Key -> what may stand there. One that may be missing ends with "?"."""
Fields = dict[str, dict[str, Keys]]
"""Kind and version -> part, the whole file first -> its keys."""


def fields() -> Fields:
    """The keys of today.

    Returns:
        Of every kind of result file.
    """
    return {f"{name} {kind.file.SCHEMA_VERSION}": _parts(kind.file) for name, kind in KINDS.items()}


def unreadable(before: Mapping[str, Mapping[str, Keys]], now: Fields) -> list[str]:
    """What stands in the way of files of before.

    Args:
        before: keys by kind and version, as they were.
        now: the same as they are.

    Returns:
        A line for each change that a version has to tell; nothing of a kind whose version did.
    """
    lines = []
    for name in before.keys() & now.keys():
        whole = next(iter(before[name])), next(iter(now[name]))
        renamed = dict([whole])  # a file does not say how the class of the whole is called
        for part, keys in before[name].items():
            changes = _changes(keys, now[name].get(renamed.get(part, part)))
            lines += [f"{name}: {part}: {change}" for change in changes]
    return sorted(lines)


def _changes(before: Keys, now: Keys | None) -> list[str]:
    if now is None:
        return ["is gone"]
    types = {key.rstrip("?"): value for key, value in now.items()}
    old = {key.rstrip("?"): value for key, value in before.items()}
    return [
        *(f"{key} is gone" for key in old.keys() - types.keys()),
        *(f"{key} must be given" for key in now.keys() - old.keys() if not key.endswith("?")),
        *(f"{key} is another" for key in old if key in types and not _covers(types[key], old[key])),
    ]


def _covers(now: list[Type], before: list[Type]) -> bool:
    """Whether all that stood there may stand there still."""
    return all(any(_is_read_as(old, new) for new in now) for old in before)


def _is_read_as(before: Type, now: Type) -> bool:
    if isinstance(before, str) or isinstance(now, str):
        return before == now or (before, now) == ("integer", "number") or now == "any"
    return before.keys() == now.keys() and all(_covers(now[kind], before[kind]) for kind in now)


def _parts(file: type[ResultFile]) -> dict[str, Keys]:
    schema = file.model_json_schema()
    parts = {file.__name__: schema, **schema.get("$defs", {})}
    return {name: _keys(part) for name, part in parts.items()}


def _keys(part: Mapping[str, object]) -> Keys:
    required, properties = part.get("required", []), part.get("properties", {})
    assert isinstance(required, list) and isinstance(properties, dict)
    return {
        f"{name}{'' if name in required else '?'}": _types(schema)
        for name, schema in sorted(properties.items())
    }


def _types(schema: Mapping[str, object]) -> list[Type]:
    """What a schema lets stand there."""
    if isinstance(reference := schema.get("$ref"), str):
        return [reference.rpartition("/")[2]]
    if isinstance(options := schema.get("anyOf", schema.get("oneOf")), list):
        return [kind for option in options for kind in _types(option)]
    if isinstance(
        words := schema.get("enum", [schema["const"]] if "const" in schema else None), list
    ):
        return [json.dumps(word) for word in words]
    if schema.get("type") == "array":
        items = schema.get("prefixItems", [schema.get("items", {})])
        assert isinstance(items, list)
        return [{"list": [kind for item in items for kind in _types(item)]}]
    if isinstance(values := schema.get("additionalProperties"), dict):
        return [{"names": _types(values)}]
    return [str(schema.get("type", "any"))]


def _text(now: Fields) -> str:
    """A line for each part, so that a change shows as one."""
    kinds = [
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(f" {json.dumps(part)}: {json.dumps(keys)}" for part, keys in parts.items())
        + "\n}"
        for name, parts in sorted(now.items())
    ]
    return "{\n" + ",\n".join(kinds) + "\n}\n"


def main() -> None:
    """Write the record, or say what has to be told by a version first."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    now = fields()
    before = cast(Fields, read_json(RECORD)) if RECORD.exists() else {}
    if lines := unreadable(before, now):
        raise SystemExit(
            "raise SCHEMA_VERSION, or leave files of before readable:\n" + "\n".join(lines)
        )
    write_text(RECORD, _text(now))


if __name__ == "__main__":
    main()
