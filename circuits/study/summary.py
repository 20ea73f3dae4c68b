"""What a study found, as a table in a frame."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from circuits.runtime.display import Displayed

if TYPE_CHECKING:
    import pandas as pd

_HEAD = ("", "found", "on", "took")
_WIDEST = 60  # letters of a line of what was found


@dataclass(frozen=True, repr=False)
class Summary(Displayed):
    """What a study found so far.

    Attributes:
        title: the model and the task.
        rows: of each finding: its name, what was found, on which pairs, and how long it took.
    """

    title: str
    rows: tuple[tuple[str, str, str, str], ...]

    def _facts(self) -> dict[str, str]:
        return {"study of": self.title}

    def to_frame(self) -> pd.DataFrame:
        """The findings, a row each.

        Returns:
            Columns what, found, on, took: text.
        """
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=["what", *_HEAD[1:]])

    def __str__(self) -> str:
        """The table in a frame."""
        lines = [_HEAD, *(part for row in self.rows for part in _wrapped(row))]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
        bars = ["─" * (width + 2) for width in widths]

        def drawn(line: tuple[str, ...]) -> str:
            cells = (f" {cell:<{width}} " for cell, width in zip(line, widths, strict=True))
            return f"│{'│'.join(cells)}│"

        return "\n".join(
            [
                self.title,
                f"┌{'┬'.join(bars)}┐",
                drawn(_HEAD),
                f"├{'┼'.join(bars)}┤",
                *map(drawn, lines[1:]),
                f"└{'┴'.join(bars)}┘",
            ]
        )


def _wrapped(row: tuple[str, str, str, str]) -> list[tuple[str, str, str, str]]:
    """A row as one line or more, where what was found is long."""
    name, finding, pairs, took = row
    first, *other_lines = textwrap.wrap(finding, _WIDEST) or [""]
    return [(name, first, pairs, took), *(("", line, "", "") for line in other_lines)]
