"""What a result shows of itself: a table in a notebook, a data frame, a figure, a page.

A result says what it holds as `_facts` (a line of text each) and as rows (`to_frame`). Its figure
is drawn by `circuits.plot`, which stands far above the rooms that make results, so it is looked up
by name when it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

_ROWS = 10


class Displayed(ABC):
    """A result that shows itself: `repr`, a table in a notebook, `to_frame()`."""

    @abstractmethod
    def _facts(self) -> dict[str, str]:
        """What it is, in a few words each, by name."""

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """The result as a table, a row for each thing that it says something of."""

    @property
    def facts(self) -> dict[str, str]:
        """What it is, in a few words each, by name."""
        return self._facts()

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._facts().items())
        return f"<{type(self).__name__}: {facts}>"

    def __str__(self) -> str:  # pydantic's own would print every field
        return repr(self)

    def _repr_html_(self) -> str:
        frame = self.to_frame()
        head = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self._facts().items()
        )
        left = len(frame) - _ROWS
        more = f"<p>and {left} more rows: <code>.to_frame()</code></p>" if left > 0 else ""
        table = frame.head(_ROWS).to_html(index=False, border=0, float_format="{:.4g}".format)
        return f"<b>{type(self).__name__}</b><table>{head}</table>{table}{more}"


class Plotted(Displayed):
    """A result that also has a figure: `plot()`."""

    def plot(self, **how: object) -> Figure:
        """The report's figure of this result.

        Args:
            **how: as for the function of `circuits.plot` that draws it; `dark=True` draws it on a
                dark ground.

        Returns:
            A plotly figure; `circuits.plot.save(figure, "name.svg")` writes it as SVG, PNG or HTML.
        """
        figure: Figure = importlib.import_module("circuits.plot").draw(self, **how)
        return figure


class Shown(Plotted):
    """A result that also has a page of its own: `show()`."""

    def show(self, path: str | Path | None = None) -> None:
        """Show it, with what it says in plain words.

        In a notebook it stands below the cell. Elsewhere it is written as one file that opens
        offline in a browser, and the file's place is said.

        Args:
            path: a file to write, .html or .svg (the drawing alone), in a notebook too; by default
                a page in the current folder, named for what is shown.

        Raises:
            CircuitsError: for another ending, and where the default file is there already and is
                not a page of this kind.
        """
        importlib.import_module("circuits.report.circuit_page").show(self, path)


def notebook_display() -> Callable[..., None] | None:
    """IPython's `display` where the code runs in a notebook's kernel; None elsewhere."""
    ipython = sys.modules.get("IPython")  # not imported for this: a notebook has done so
    if ipython is None or getattr(ipython.get_ipython(), "kernel", None) is None:
        return None
    display: Callable[..., None] = importlib.import_module("IPython.display").display
    return display
