"""Rows that cannot be used: refused by name, or left out and listed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tasks.errors import CircuitsError, TooFewError

T = TypeVar("T")

_REASONS = 4  # so many are told in a line


@dataclass(frozen=True)
class Skipped:
    """A row that was left out.

    source: its place ("articles.jsonl, line 7").
    reason: what a refusal would say of it.
    """

    source: str
    reason: str

    @classmethod
    def of(cls, source: str, error: CircuitsError) -> Skipped:
        """The row of that source, which an error was raised about."""
        return cls(source, str(error).removeprefix(source).lstrip(":, "))


class Kept(list[T]):
    """What was made of the rows that can be used; `skipped` are the others."""

    def __init__(self, items: Iterable[T] = (), skipped: Iterable[Skipped] = ()) -> None:
        super().__init__(items)
        self.skipped = tuple(skipped)


def keep(
    places: Sequence[int],
    make: Callable[[int], T],
    n: int | None,
    *,
    source: Callable[[int], str],
    where: str,
    skip: bool,
    always: type[CircuitsError] | None = None,
    before: Sequence[Skipped] = (),
) -> Kept[T]:
    """What `make` makes of the first `n` rows, in order; None takes all.

    skip: go on to the next row where one cannot be used, to `n` that can; else that row is refused.
    always: an error after which to go on in any case.
    source: a row's name.
    where: what the rows are of, for the message where too few can be used.
    before: rows that were left out already.
    """
    made: list[T] = []
    skipped = [*before]
    for place in places:
        if n is not None and len(made) == n:
            break
        try:
            made.append(make(place))
        except CircuitsError as error:
            if not skip and (always is None or not isinstance(error, always)):
                raise
            skipped.append(Skipped.of(source(place), error))
    if len(made) < (1 if n is None else n):
        asked = "" if n is None else f"{n} are asked for, and "
        raise TooFewError(
            f"{where}: {asked}{len(made)} of {len(made) + len(skipped)} rows can be used "
            f"({described(skipped)})",
            len(made),
        )
    return Kept(made, skipped)


def described(skipped: Sequence[Skipped]) -> str:
    """How many rows were left out, and why, in a line."""
    kinds: dict[str, list[str]] = {}
    for row in skipped:
        # The same reason of rows of other lengths, or of other words.
        kinds.setdefault(re.sub(r"\d+|'[^']*'", "", row.reason), []).append(row.reason)
    count = Counter({reasons[0]: len(reasons) for reasons in kinds.values()})
    told = [f"{number} x {reason}" for reason, number in count.most_common(_REASONS)]
    more = [f"{len(count) - _REASONS} more reasons"] if len(count) > _REASONS else []
    rows = "row" if len(skipped) == 1 else "rows"
    return f"{len(skipped)} {rows} left out: {'; '.join([*told, *more])}"
