"""What each edge of a circuit is worth: the fall in f when it alone is removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from circuits.format import compact, estimate, sure
from circuits.report.blocks import Plot
from circuits.report.figures.panels import label

SHOWN = 48
"""Edges shown; of more, those of the largest |fall|, still in order."""


def minimality_dots(found: Mapping[str, Any]) -> Plot:
    """Falls from the largest, before the band of the control: random edges added alone.

    found: `Minimality.to_dict()`; its falls need not be sorted.
    """
    drops = sorted(found["falls"].items(), key=lambda item: -abs(item[1]["value"]))[:SHOWN]
    drops.sort(key=lambda item: -item[1]["value"])
    names = [name for name, _ in drops]
    values = [fall for _, fall in drops]
    certain = [sure(fall) for fall in values]
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": title,
            "x": [place for place, kept in enumerate(certain) if kept is chosen],
            "y": compact([fall["value"] for fall, kept in zip(values, certain, strict=True)
                          if kept is chosen]),
            "customdata": [
                f"<b>{label(name)}</b><br>fall in f: {estimate(fall, 4)}"
                for name, fall, kept in zip(names, values, certain, strict=True)
                if kept is chosen
            ],
            "hovertemplate": "%{customdata}<extra></extra>",
            "marker": {
                "color": "$positive" if chosen else "$paper",
                "size": 7,
                "line": {"color": "$positive", "width": 1.4},
            },
            "error_y": _bars(
                [fall for fall, kept in zip(values, certain, strict=True) if kept is chosen]
            ),
        }
        for chosen, title in (
            (True, "interval excludes 0"),
            (False, "interval holds 0"),
        )
    ]  # fmt: skip
    control = [one["value"] for one in found["control"].values()]
    shapes: list[dict[str, Any]] = []
    if control:
        low, high = np.quantile(control, [0.025, 0.975]).tolist()
        shapes.append(_across(low, high, "$control/40"))
        data.append(
            _legend_only(f"random {found['unit']} added alone, central 95 %", "$control/60")
        )
    return {
        "data": data,
        "layout": {
            "shapes": [*shapes, _across(0.0, 0.0, "$faint")],
            "xaxis": {
                "tickvals": list(range(len(names))),
                "ticktext": [label(name) for name in names],
                "tickangle": -90,
                "tickfont": {"size": 10, "color": "$muted"},
                "showgrid": False,
                "range": [-0.8, len(names) - 0.2],
            },
            "yaxis": {"title": {"text": "fall in f without it"}},
            "margin": {"t": 46},
        },
    }


def _bars(drops: list[Mapping[str, Any]]) -> dict[str, Any]:
    if any(fall["low"] is None for fall in drops):  # of a single example
        return {}
    return {
        "type": "data",
        "symmetric": False,
        "array": compact([fall["high"] - fall["value"] for fall in drops]),
        "arrayminus": compact([fall["value"] - fall["low"] for fall in drops]),
        "color": "$positive",
        "thickness": 1.2,
        "width": 0,
    }


def _across(low: float, high: float, colour: str) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "type": "rect" if high > low else "line",
        "xref": "x domain",
        "x0": 0,
        "x1": 1,
        "y0": low,
        "y1": high,
        "layer": "below",
        "line": {"width": 0} if high > low else {"color": colour, "width": 1},
    }
    return {**shape, "fillcolor": colour} if high > low else shape


def _legend_only(name: str, colour: str) -> dict[str, Any]:
    """An entry of the legend for what a shape shows."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [None],
        "y": [None],
        "marker": {"symbol": "square", "size": 12, "color": colour},
        "hoverinfo": "skip",
    }
