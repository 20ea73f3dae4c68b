"""The one error class of the project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CircuitsError(ValueError):
    """Bad input, said in one line: what was wrong, where, and what to do.

    The command line prints the message without a traceback and exits with status 2.
    """


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Errors from the block begin with the name of the row, "articles.jsonl, line 7"."""
    try:
        yield
    except CircuitsError as error:
        raise CircuitsError(f"{source}: {error}") from error
