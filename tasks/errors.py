"""The errors of the project: one class, and the kinds of it that a caller may want to catch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class CircuitsError(ValueError):
    """Bad input, said in one line: what was wrong, where, and what to do.

    The command line prints the message without a traceback and exits with status 2.
    """


class InputError(CircuitsError):
    """Data that cannot be used: a file, a row, a prompt, or an answer."""


class TooFewError(CircuitsError):
    """More rows or prompts are asked for than there are.

    Attributes:
        there: How many there are.
    """

    def __init__(self, message: str, there: int) -> None:
        super().__init__(message)
        self.there = there


@contextmanager
def error_context(source: str) -> Iterator[None]:
    """Make every error of the block begin with the name of what it is about; its class stays.

    Args:
        source: The file, row or key, such as "articles.jsonl, line 7".

    Raises:
        CircuitsError: The block's own error, with `source` and a colon before its message.
    """
    try:
        yield
    except CircuitsError as error:
        kind = type(error)
        named_error = kind.__new__(kind, f"{source}: {error}")
        vars(named_error).update(vars(error))
        raise named_error from error


def unrepeated(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """A JSON object from its keys and values, for `json.loads(object_pairs_hook=...)`.

    Args:
        pairs: The object's keys and values, in the order of the file.

    Returns:
        The object.

    Raises:
        InputError: For a key that comes twice: Python would keep the last value and drop the
            others.
    """
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise InputError(f"the key {key!r} stands twice in one JSON object; keep one of them")
        values[key] = value
    return values
