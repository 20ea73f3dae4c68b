"""Small multiples: panels in a grid, each with a title, and axes that may be shared."""

from __future__ import annotations

import html
from collections.abc import Sequence

from circuits.plot.plotly_figure import Plot

_WIDTH, _LETTER, _MARGIN = 700, 7, 16  # pixels: of all panels, of a title's letter, between titles


def label(name: str) -> str:
    """A name as plotly text, which reads `<q>` as a tag."""
    return html.escape(name, quote=False)


def panel_grid(
    titles: Sequence[str],
    *,
    columns: int,
    height: int,
    xaxis: Plot,
    yaxis: Plot,
    share_y: bool = True,
    gap: float = 0.05,
    gap_pixels: int = 76,
) -> Plot:
    """Axes and titles of a grid, row by row from the top.

    height: of the plot area in pixels, from which the gap between rows is taken. With `share_y`
    only the first panel of a row shows the labels of its y axis.
    """
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    width = (1 - gap * (columns - 1)) / columns
    space = gap_pixels / height
    tall = (1 - space * (rows - 1)) / rows
    layout: Plot = {"annotations": []}
    for panel, title in enumerate(titles):
        row, column = divmod(panel, columns)
        left, top = column * (width + gap), 1 - row * (tall + space)
        number = str(panel + 1) if panel else ""
        first = column == 0 or not share_y
        layout[f"xaxis{number}"] = {
            **xaxis,
            "domain": [left, min(1.0, left + width)],
            "anchor": f"y{number}",
        }
        layout[f"yaxis{number}"] = {
            **yaxis,
            "domain": [max(0.0, top - tall), top],
            "anchor": f"x{number}",
            "showticklabels": first,
        }
        if not first:
            layout[f"yaxis{number}"].pop("title", None)
        layout["annotations"].append(
            {
                "text": f"<b>{label(title)}</b>",
                "x": left,
                "y": top,
                "xref": "paper",
                "yref": "paper",
                "xanchor": "left",
                "yanchor": "bottom",
                "yshift": 5,
            }
        )
    return layout


def balanced(titles: Sequence[str], most: int = 4) -> int:
    """Columns for panels of these titles: one row if they fit, else rows as equal as can be."""
    widest = _LETTER * max(map(len, titles), default=0) + _MARGIN
    most = max(1, min(most, _WIDTH // widest))
    rows = max(1, -(-len(titles) // most))
    return max(1, -(-len(titles) // rows))


def axes_of(index: int) -> dict[str, str]:
    """The axis references of a panel's traces."""
    number = str(index + 1) if index else ""
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


def band(
    x: Sequence[float], low: Sequence[float | None], high: Sequence[float | None], colour: str
) -> Plot:
    """A filled band between two lines."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *reversed(x)],
        "y": [*high, *reversed(low)],
        "fill": "toself",
        "fillcolor": f"{colour}/2b",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }
