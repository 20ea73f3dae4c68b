"""Faithfulness by circuit size: one panel a checkpoint, three rankings in each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from circuits.format import compact, estimate, level, percent, signed
from circuits.report.blocks import Plot
from circuits.report.figures.panels import axes_of, band, panel_grid

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
    found: Mapping[str, Mapping[str, Any]],
    circuits: Mapping[str, Mapping[str, Any]],
    *,
    columns: int = 3,
) -> Plot:
    """f with 95 % bands over the share of edges kept; the star is the run's circuit.

    found: `Faithfulness.to_dict()` by checkpoint, or why it is undefined.
    """
    titles = list(found)
    layout = panel_grid(
        titles,
        columns=columns,
        height=faithfulness_height(len(titles), columns) - 110,
        xaxis={
            "type": "log",
            "title": {"text": f"share of {_units(found)} kept"},
            "tickvals": [0.001, 0.01, 0.1, 1],
            "ticktext": ["0.1 %", "1 %", "10 %", "100 %"],
            "range": [-3.1, 0.1],
        },
        yaxis={"title": {"text": "faithfulness f"}, "range": _span(found)},
    )
    data: list[dict[str, Any]] = []
    named: set[str] = set()
    for place, (name, one) in enumerate(found.items()):
        if "curves" not in one:
            layout["annotations"].append(_undefined(place))
            continue
        for ranking, (title, colour, symbol) in RANKINGS.items():
            if ranking in one["curves"]:
                points = one["curves"][ranking]["values"]
                data += _line(
                    one, points, place, ranking, title, colour, symbol, first=title not in named
                )
                named.add(title)
        star = _star(circuits.get(name, {}), place, first="star" not in named)
        if star:
            named.add("star")
            data.append(star)
    layout["shapes"] = [
        {
            "type": "line",
            "xref": f"{axes_of(place)['xaxis']} domain",
            "yref": axes_of(place)["yaxis"],
            "x0": 0,
            "x1": 1,
            "y0": height,
            "y1": height,
            "line": {"color": "$faint", "width": 1, "dash": "dash"},
            "layer": "below",
        }
        for place in range(len(titles))
        for height in (0, 1)
    ]
    layout["legend"] = {"y": 1 + 26 / (faithfulness_height(len(titles), columns) - 110)}
    layout["margin"] = {"t": 66}
    return {"data": data, "layout": layout}


def _line(
    one: Mapping[str, Any],
    points: list[Mapping[str, Any]],
    place: int,
    ranking: str,
    title: str,
    colour: str,
    symbol: str,
    *,
    first: bool,
) -> list[dict[str, Any]]:
    x = list(one["fractions"])
    units = f"{level(one)}s"
    sizes = one["curves"][ranking][units]
    axes = axes_of(place)
    shade = band(
        x,
        compact([point["low"] for point in points]),
        compact([point["high"] for point in points]),
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
            "y": compact([point["value"] for point in points]),
            "customdata": [
                f"<b>{title}</b><br>{count} {units} ({percent(share)})<br>f = {estimate(point)}"
                for share, count, point in zip(x, sizes, points, strict=True)
            ],
            "hovertemplate": "%{customdata}<extra></extra>",
            "line": {"color": colour, "width": 4 if ranking == "signed" else 2},
            "marker": {
                "color": colour,
                "size": 9 if ranking == "signed" else 6,
                "symbol": symbol,
            },
            **axes,
        },
    ]


def _star(circuit: Mapping[str, Any], place: int, *, first: bool) -> dict[str, Any] | None:
    kept = circuit.get("faithfulness")
    if not kept:
        return None
    units = f"{level(circuit)}s"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "the circuit of this run",
        "legendgroup": "star",
        "showlegend": first,
        "x": [circuit["fraction"]],
        "y": compact([kept["value"]]),
        "customdata": [
            f"<b>circuit</b><br>{circuit[units]} {units} ({percent(circuit['fraction'])})"
            f"<br>f = {estimate(kept)}"
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {
            "symbol": "star",
            "size": 14,
            "color": "$markline",
            "line": {"color": "$paper", "width": 1},
        },
        **axes_of(place),
    }


def _units(found: Mapping[str, Mapping[str, Any]]) -> str:
    return f"{next((level(one) for one in found.values() if 'curves' in one), 'edge')}s"


def _undefined(place: int) -> dict[str, Any]:
    axes = axes_of(place)
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


def ends_of(found: Mapping[str, Mapping[str, Any]]) -> list[float]:
    """Every value of the curves and of their intervals."""
    return [
        float(point[end])
        for one in found.values()
        for curve in one.get("curves", {}).values()
        for point in curve["values"]
        for end in ("low", "high", "value")
        if point[end] is not None and math.isfinite(point[end])
    ]


def _span(found: Mapping[str, Mapping[str, Any]]) -> list[float]:
    """One range for all panels, within limits."""
    ends = ends_of(found)
    low, high = min([*ends, 0.0]), max([*ends, 1.0])
    margin = 0.06 * (min(high, HIGHEST) - max(low, LOWEST))
    return [max(low, LOWEST) - margin, min(high, HIGHEST) + margin]
