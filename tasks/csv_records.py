"""A CSV text record by record, where one that cannot be read does not take the others with it."""

from __future__ import annotations

import csv
from itertools import islice


class CsvRecords:
    """The records of a CSV text, one after the other; each may stand over several lines.

    line: the lines that were read, counted from 0.
    """

    def __init__(self, lines: list[str], delimiter: str) -> None:
        self.lines, self.delimiter = lines, delimiter
        self._begin(0)

    @property
    def line(self) -> int:
        """The line at which the next record begins."""
        return self._from + self._reader.line_num

    @property
    def ended(self) -> bool:
        """Whether all lines were read."""
        return self.line >= len(self.lines)

    def next(self) -> list[str] | None:
        """The next record's cells, none at a blank line; None at the end."""
        return next(self._reader, None)

    def recover(self, start: int, width: int) -> int:
        """Go on behind a record that cannot be read, and say which line was its last.

        That is its first one, where each line after it is a record by itself: then an open quote
        has swallowed them. Else they may belong to it, and are passed over with it.
        """
        last_line = self.line
        for line in self.lines[start + 1 : last_line]:
            try:
                (cells,) = csv.reader([line], delimiter=self.delimiter, strict=True)
            except (csv.Error, ValueError):
                return last_line
            if cells and (len(cells) != width or width == 1):
                return last_line
        self._begin(start + 1)
        return start + 1

    def _begin(self, line: int) -> None:
        self._from = line
        self._reader = csv.reader(
            islice(self.lines, line, None), delimiter=self.delimiter, strict=True
        )
