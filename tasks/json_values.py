"""JSON texts: a key that stands twice is refused, or said of the object that it stands in."""

from __future__ import annotations

import json
from collections.abc import Callable

from tasks.errors import CircuitsError, InputError, unrepeated


def loads(text: str, hook: Callable[[list[tuple[str, object]]], dict[str, object]]) -> object:
    """A JSON text's value; what Python does not take of JSON is a CircuitsError."""
    try:
        return json.loads(text, object_pairs_hook=hook)
    except RecursionError as error:
        raise InputError("JSON that is nested too deep") from error
    except ValueError as error:
        if isinstance(error, CircuitsError | json.JSONDecodeError):
            raise
        raise InputError("JSON with a number of thousands of digits") from error


class Repeated(dict[str, object]):
    """A JSON object that has a key twice, or holds one that has: no row, and said when it is one.

    why: what a refusal says of it.
    """

    why: CircuitsError

    @classmethod
    def made(cls, pairs: list[tuple[str, object]]) -> dict[str, object]:
        """As `unrepeated`, without raising, so that the rows after it are read."""
        try:
            values = unrepeated(pairs)
            inner = next(filter(None, (repeated(value) for value in values.values())), None)
        except CircuitsError as error:
            values, inner = {}, error
        if inner is None:
            return values
        instance = cls(values)
        instance.why = inner
        return instance


def repeated(value: object) -> CircuitsError | None:
    """Why a JSON value is none, where a key stands twice in it."""
    if isinstance(value, list):
        return next(filter(None, map(repeated, value)), None)
    return value.why if isinstance(value, Repeated) else None
