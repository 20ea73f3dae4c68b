"""Rows that cannot be used: refused by name, or left out and listed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def usable(
    places: Iterable[int],
    make: Callable[[int], T],
    n: int | None,
    *,
    source: Callable[[int], str],
    left_out: list[Skipped],
    skips: type[CircuitsError] | None,
) -> Iterator[T]:
    """What `make` makes of the first `n` rows, in order; None takes all.

    source: a row's name.
    left_out: takes the rows that could not be used.
    skips: the error after which to go on to the next row, to `n` that can be used; after any other,
        and None is all of them, the row is refused.
    """
    n_made = 0
    for index in places:
        if n_made == n:
            return
        try:
            item = make(index)
        except CircuitsError as error:
            if skips is None or not isinstance(error, skips):
                raise
            left_out.append(Skipped.of(source(index), error))
            continue
        n_made += 1
        yield item


def require_enough(made: int, n: int | None, left_out: Sequence[Skipped], where: str) -> None:
    """Refuse fewer than `n`, or none where all were asked for.

    where: what the rows are of, for the message.
    """
    if made < (1 if n is None else n):
        demand = "" if n is None else f"{n} are asked for, and "
        raise TooFewError(
            f"{where}: {demand}{made} of {made + len(left_out)} rows can be used "
            f"({described(left_out)})",
            made,
        )


def keep(
    places: Iterable[int],
    make: Callable[[int], T],
    n: int | None,
    *,
    source: Callable[[int], str],
    where: str,
    left_out: list[Skipped],
    skips: type[CircuitsError] | None,
) -> Kept[T]:
    """All of `usable`, as many as are asked for, with the rows that were left out."""
    results = list(usable(places, make, n, source=source, left_out=left_out, skips=skips))
    require_enough(len(results), n, left_out, where)
    return Kept(results, left_out)


def described(skipped: Sequence[Skipped]) -> str:
    """How many rows were left out, and why, in a line."""
    kinds: dict[str, list[str]] = {}
    for row in skipped:
        # The same reason of rows of other lengths, or of other words.
        kinds.setdefault(re.sub(r"\d+|'[^']*'", "", row.reason), []).append(row.reason)
    count = Counter({reasons[0]: len(reasons) for reasons in kinds.values()})
    most_common = [f"{number} x {reason}" for reason, number in count.most_common(_REASONS)]
    remainder = [f"{len(count) - _REASONS} more reasons"] if len(count) > _REASONS else []
    rows = "row" if len(skipped) == 1 else "rows"
    return f"{len(skipped)} {rows} left out: {'; '.join([*most_common, *remainder])}"
