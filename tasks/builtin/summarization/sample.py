"""The articles of a sample in the order in which they are taken: all at hand, or from a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol, runtime_checkable

from tasks.builtin.summarization.articles import (
    Article,
    Articles,
    article_column,
    summary_column,
)
from tasks.errors import InputError
from tasks.files import Row
from tasks.skipping import Skipped

SEARCHED = 10  # articles looked ahead at, for one that lends


@runtime_checkable
class Sample(Protocol):
    """Articles by their place in the order, taken one after the other.

    left_out: rows that could not be used so far.
    """

    left_out: list[Skipped]

    def places(self) -> Iterator[int]:
        """All places, in order."""
        ...

    def article(self, place: int) -> Article:
        """The article at a place, if its row can be read."""
        ...

    def source(self, place: int) -> str:
        """The name of the row at a place."""
        ...

    def following(self, place: int) -> list[int]:
        """Up to ten places after that one, the last followed by the first."""
        ...


@dataclass
class DrawnSample:
    """Articles at hand, in the order of their indices."""

    articles: Articles
    order: Sequence[int]
    left_out: list[Skipped] = field(default_factory=list)

    def places(self) -> Iterator[int]:
        """As of `Sample`."""
        return iter(range(len(self.order)))

    def article(self, place: int) -> Article:
        """As of `Sample`."""
        return self.articles[self.order[place]]

    def source(self, place: int) -> str:
        """As of `Sample`."""
        return self.articles.rows[self.order[place]].source

    def following(self, place: int) -> list[int]:
        """As of `Sample`."""
        n_rows = len(self.order)
        return [(place + step) % n_rows for step in range(1, min(SEARCHED + 1, n_rows))]


class StreamedSample:
    """Articles of a stream, of which only those are held that are still looked at: the present one,
    the next ten, and the first eleven.
    """

    def __init__(
        self, rows: Iterator[Row], columns: tuple[str | None, str | None], left_out: list[Skipped]
    ) -> None:
        self.left_out = left_out
        self._stream, self._columns = rows, columns
        self._held: dict[int, Row] = {}
        self._taken = 0

    def places(self) -> Iterator[int]:
        """As of `Sample`."""
        for index in count():
            if not self._reaches(index):
                return
            yield index
            if index > SEARCHED:
                del self._held[index]

    def article(self, place: int) -> Article:
        """As of `Sample`."""
        row = self._row(place)
        article, summary = self._columns
        text, summary_text = article_column(row, article), summary_column(row, summary)
        return Article(row.source, row.text(text), row.text(summary_text))

    def source(self, place: int) -> str:
        """As of `Sample`."""
        return self._row(place).source

    def following(self, place: int) -> list[int]:
        """As of `Sample`."""
        indices_ahead = [
            index for index in range(place + 1, place + 1 + SEARCHED) if self._reaches(index)
        ]
        indices_behind = range(min(place, SEARCHED - len(indices_ahead)))
        return [*indices_ahead, *indices_behind]

    def _row(self, index: int) -> Row:
        if not self._reaches(index):
            raise InputError(f"the stream has {self._taken} rows")
        return self._held[index]

    def _reaches(self, index: int) -> bool:
        while self._taken <= index:
            row = next(self._stream, None)
            if row is None:
                return False
            self._held[self._taken] = row
            self._taken += 1
        return True
