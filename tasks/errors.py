"""The errors of the project, all of one class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class CircuitsError(ValueError):
    """Bad input, said in one line: what was wrong, where, and what to do.

    The command line prints the message without a traceback and exits with status 2.
    """


class TooFewError(CircuitsError):
    """More rows or prompts are asked for than there are. there: how many there are."""

    def __init__(self, message: str, there: int) -> None:
        super().__init__(message)
        self.there = there


@contextmanager
def error_context(source: str) -> Iterator[None]:
    """Errors from the block begin with the name of the row, "articles.jsonl, line 7"."""
    try:
        yield
    except CircuitsError as error:
        raise CircuitsError(f"{source}: {error}") from error


def unrepeated(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its keys and values, for `json.loads(object_pairs_hook=...)`.

    A key that comes twice is refused: Python would keep the last value and drop the others.
    """
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise CircuitsError(
                f"the key {key!r} stands twice in one JSON object; keep one of them"
            )
        made[key] = value
    return made
