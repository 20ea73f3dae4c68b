"""Dots with intervals: rows of named things, one or more series, in panels side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from circuits.evaluation import Estimate
from circuits.format import Number, compact, signed
from circuits.plot.figures.panels import axes_of, label, panel_grid
from circuits.plot.plotly_figure import Plot

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Dot:
    """A value in a row of a panel; low and high where it has an interval."""

    panel: int
    row: int
    value: Number
    low: Number | None = None
    high: Number | None = None
    text: str = ""

    @classmethod
    def of(cls, panel: int, row: int, estimate: Estimate) -> Dot:
        """An estimate, with its interval where it has one."""
        low, high = (None if math.isnan(end) else end for end in (estimate.low, estimate.high))
        return cls(panel, row, estimate.value, low, high)


@dataclass(frozen=True)
class Series:
    """Dots of one kind. offset: within the row, down to -0.5 and up to 0.5."""

    name: str
    colour: str
    dots: Sequence[Dot]
    symbol: str = "circle"
    offset: Number = 0.0
    size: int = 9
    width: Number = 1.8
    filled: bool = True


@dataclass(frozen=True)
class ValueAxis:
    """The x axis, along which dots lie.

    Attributes:
        title: of every panel's axis, or one for each panel.
        references: values that a dashed line marks.
        span: first and last value of every panel; None fits each panel to its own dots.
    """

    title: str | Sequence[str] = ""
    references: Sequence[Number] = ()
    span: tuple[Number, Number] | None = None


def dots_height(panels: int, rows: int, columns: int, pixels: int = 34) -> int:
    """Pixels that the figure needs, legend and axis titles included."""
    return 110 + (-(-panels // columns)) * (rows * pixels + 24) + (-(-panels // columns) - 1) * 56


def dot_panels(
    panels: Sequence[str],
    rows: Sequence[str],
    series: Sequence[Series],
    axis: ValueAxis,
    *,
    columns: int,
    pixels: int = 34,
    notes: Sequence[tuple[int, int, str]] = (),
) -> Plot:
    """Values along x, rows from the top.

    Args:
        panels: titles of the panels.
        rows: names of the rows, the same in every panel.
        series: what is drawn.
        axis: of the values.
        columns: panels side by side.
        pixels: height of a row.
        notes: (panel, row, text), each in place of a dot.

    Returns:
        The figure, for plotly.
    """
    columns = min(columns, len(panels))
    height = dots_height(len(panels), len(rows), columns, pixels) - 110
    layout = panel_grid(
        panels,
        columns=columns,
        height=height,
        gap=0.04,
        xaxis={"nticks": 6, **({"range": list(axis.span)} if axis.span else {})},
        yaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": [label(row) for row in rows],
            "range": [len(rows) - 0.45, -0.55],
            "ticks": "",
            "showgrid": True,
        },
    )
    for panel in range(len(panels)):
        axis_layout = layout[f"xaxis{panel + 1 if panel else ''}"]
        axis_layout["title"] = {
            "text": axis.title if isinstance(axis.title, str) else axis.title[panel]
        }
        if axis.span is None and (axis_range := _one_value(series, panel)):
            axis_layout["range"] = axis_range
    layout["shapes"] = [
        {
            "type": "line",
            "x0": value,
            "x1": value,
            "y0": 0,
            "y1": 1,
            "xref": axes_of(panel)["xaxis"],
            "yref": axes_of(panel)["yaxis"] + " domain",
            "line": {"color": "$faint", "width": 1, "dash": "dash"},
            "layer": "below",
        }
        for panel in range(len(panels))
        for value in axis.references
    ]
    for panel, row, text in notes:
        layout["annotations"].append(
            {
                "text": label(text),
                "x": 0.98,
                "xanchor": "right",
                "xref": f"{axes_of(panel)['xaxis']} domain",
                "y": row,
                "yref": axes_of(panel)["yaxis"],
                "font": {"size": 11, "color": "$muted"},
                "bgcolor": "$paper",
            }
        )
    layout["showlegend"] = len(series) > 1
    layout["legend"] = {"y": 1 + 26 / height}
    layout["margin"] = {"t": 66 if len(series) > 1 else 34}
    data = [
        _trace(dot_series, panel, rows, first=panel == _first(dot_series))
        for dot_series in series
        for panel in range(len(panels))
    ]
    return {"data": data, "layout": layout}


def _one_value(series: Sequence[Series], panel: int) -> list[Number] | None:
    """A range for a panel whose dots differ by rounding only, which plotly would stretch."""
    dots = [dot for dot_series in series for dot in dot_series.dots if dot.panel == panel]
    values = [end for dot in dots for end in (dot.value, dot.low, dot.high) if end is not None]
    size = max(map(abs, values), default=0)
    if not values or max(values) - min(values) > _ROUNDING * size:
        return None
    return [min(values) - 0.05 * (size or 1), max(values) + 0.05 * (size or 1)]


def _first(series: Series) -> int:
    return min((dot.panel for dot in series.dots), default=0)


def _trace(series: Series, panel: int, rows: Sequence[str], *, first: bool) -> Plot:
    dots = [dot for dot in series.dots if dot.panel == panel]
    trace: Plot = {
        "type": "scatter",
        "mode": "markers",
        "name": series.name,
        "legendgroup": series.name,
        "showlegend": first and bool(dots),
        "x": compact([dot.value for dot in dots]),
        "y": [dot.row + series.offset for dot in dots],
        "customdata": [_hover(series, rows[dot.row], dot) for dot in dots],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {
            "color": series.colour if series.filled else "$paper",
            "size": series.size,
            "symbol": series.symbol,
            "line": {"color": series.colour, "width": 1.6},
        },
        **axes_of(panel),
    }
    if any(dot.low is not None for dot in dots):
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": compact(
                [(dot.value if dot.high is None else dot.high) - dot.value for dot in dots]
            ),
            "arrayminus": compact(
                [dot.value - (dot.value if dot.low is None else dot.low) for dot in dots]
            ),
            "color": series.colour,
            "thickness": series.width,
            "width": 0,
        }
    return trace


def _hover(series: Series, row: str, dot: Dot) -> str:
    if dot.text:
        return dot.text
    text = f"<b>{label(row)}</b><br>{label(series.name)}: {signed(dot.value)}"
    if dot.low is not None and dot.high is not None:
        text += f" [{signed(dot.low)}, {signed(dot.high)}]"
    return text
