"""Faithfulness by circuit size: one panel a checkpoint, three rankings in each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from circuits.evaluation import CircuitSummary, Curve, Faithfulness, Undefined
from circuits.format import compact, estimate, percent, signed
from circuits.options.choices import Level
from circuits.plot.figures.panels import axes_of, band, panel_grid
from circuits.plot.plotly_figure import Plot

RANKINGS = {
    "random": ("random ranking (control)", "$control", "x-thin-open"),
    "signed": ("ranked by signed score", "$negative", "square"),
    "absolute": ("ranked by |score|", "$positive", "circle"),
}
LOWEST, HIGHEST = -0.5, 1.6
"""The y axis never reaches farther: where a checkpoint hardly does the task, f can be anything."""


def faithfulness_height(panels: int, columns: int) -> int:
    """Pixels that the figure needs."""
    rows = -(-panels // min(columns, panels))
    return 110 + rows * 210 + (rows - 1) * 76


def faithfulness_curves(
    curves: Mapping[str, Faithfulness | Undefined],
    circuits: Mapping[str, CircuitSummary] | None = None,
    *,
    columns: int = 3,
) -> Plot:
    """f with 95 % bands over the fraction of edges kept, a panel for each checkpoint.

    Args:
        curves: by checkpoint, or why they are undefined.
        circuits: by checkpoint; each is a star in its panel.
        columns: panels side by side.

    Returns:
        The figure, for plotly.
    """
    titles = list(curves)
    layout = panel_grid(
        titles,
        columns=columns,
        height=faithfulness_height(len(titles), columns) - 110,
        xaxis={
            "type": "log",
            "title": {"text": f"fraction of {_level(curves)}s kept"},
            "tickvals": [0.001, 0.01, 0.1, 1],
            "ticktext": ["0.1 %", "1 %", "10 %", "100 %"],
            "range": [-3.1, 0.1],
        },
        yaxis={"title": {"text": "faithfulness f"}, "range": _span(curves.values())},
    )
    data: list[Plot] = []
    in_legend: set[str] = set()
    for panel, (name, faithfulness) in enumerate(curves.items()):
        if isinstance(faithfulness, Undefined):
            layout["annotations"].append(_undefined(panel))
            continue
        for ranking, (title, colour, symbol) in RANKINGS.items():
            if ranking in faithfulness.curves:
                first = title not in in_legend
                data += _line(
                    faithfulness.curves[ranking], panel, title, colour, symbol, first=first
                )
                in_legend.add(title)
        star = _star((circuits or {}).get(name), panel, first="star" not in in_legend)
        if star:
            in_legend.add("star")
            data.append(star)
    layout["shapes"] = [
        {
            "type": "line",
            "xref": f"{axes_of(panel)['xaxis']} domain",
            "yref": axes_of(panel)["yaxis"],
            "x0": 0,
            "x1": 1,
            "y0": height,
            "y1": height,
            "line": {"color": "$faint", "width": 1, "dash": "dash"},
            "layer": "below",
        }
        for panel in range(len(titles))
        for height in (0, 1)
    ]
    layout["legend"] = {"y": 1 + 26 / (faithfulness_height(len(titles), columns) - 110)}
    layout["margin"] = {"t": 66}
    return {"data": data, "layout": layout}


def _line(
    curve: Curve, panel: int, title: str, colour: str, symbol: str, *, first: bool
) -> list[Plot]:
    x, signed_ranking = list(curve.fractions), curve.ranking == "signed"
    axes = axes_of(panel)
    shade = band(
        x,
        compact([point.low for point in curve.values]),
        compact([point.high for point in curve.values]),
        colour,
    )
    return [
        {**shade, "legendgroup": title, **axes},
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": title,
            "legendgroup": title,
            "showlegend": first,
            "x": x,
            "y": compact([point.value for point in curve.values]),
            "customdata": [
                f"<b>{title}</b><br>{size} {curve.level}s ({percent(fraction)})"
                f"<br>f = {estimate(value)}"
                for fraction, size, value in zip(x, curve.sizes, curve.values, strict=True)
            ],
            "hovertemplate": "%{customdata}<extra></extra>",
            "line": {"color": colour, "width": 4 if signed_ranking else 2},
            "marker": {
                "color": colour,
                "size": 9 if signed_ranking else 6,
                "symbol": symbol,
            },
            **axes,
        },
    ]


def _star(circuit: CircuitSummary | None, panel: int, *, first: bool) -> Plot | None:
    if circuit is None or circuit.faithfulness is None:
        return None
    f = circuit.faithfulness
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "the circuit of this run",
        "legendgroup": "star",
        "showlegend": first,
        "x": [circuit.fraction],
        "y": compact([f.value]),
        "customdata": [
            f"<b>circuit</b><br>{circuit.size} {circuit.level}s ({percent(circuit.fraction)})"
            f"<br>f = {estimate(f)}"
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {
            "symbol": "star",
            "size": 14,
            "color": "$markline",
            "line": {"color": "$paper", "width": 1},
        },
        **axes_of(panel),
    }


def _level(by_checkpoint: Mapping[str, Faithfulness | Undefined]) -> Level:
    defined = (
        faithfulness.level
        for faithfulness in by_checkpoint.values()
        if isinstance(faithfulness, Faithfulness)
    )
    return next(defined, "edge")


def _undefined(panel: int) -> Plot:
    axes = axes_of(panel)
    return {
        "text": "undefined: clean and corrupted<br>metric are equal",
        "x": 0.5,
        "y": 0.5,
        "xref": f"{axes['xaxis']} domain",
        "yref": f"{axes['yaxis']} domain",
        "font": {"color": "$muted"},
    }


def clipped(values: Iterable[float]) -> str:
    """Words for a caption whose plot cannot show all of these values."""
    if all(LOWEST <= value <= HIGHEST for value in values):
        return ""
    return f" The axis ends at {signed(LOWEST, 1)} and {signed(HIGHEST, 1)}; some lie beyond."


def values_of(curves: Iterable[Faithfulness | Undefined]) -> list[float]:
    """Every value of the curves and the ends of their intervals, as far as there are any."""
    return [
        number
        for faithfulness in curves
        if isinstance(faithfulness, Faithfulness)
        for curve in faithfulness.curves.values()
        for value in curve.values
        for number in (value.low, value.high, value.value)
        if math.isfinite(number)
    ]


def _span(faithfulness: Iterable[Faithfulness | Undefined]) -> list[float]:
    """One range for all panels, within limits."""
    values = values_of(faithfulness)
    low, high = min([*values, 0.0]), max([*values, 1.0])
    margin = 0.06 * (min(high, HIGHEST) - max(low, LOWEST))
    return [max(low, LOWEST) - margin, min(high, HIGHEST) + margin]
