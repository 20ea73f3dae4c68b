"""What each edge of a circuit is worth: the drop in f when it alone is removed."""

from __future__ import annotations

import math

import numpy as np

from circuits.evaluation import Estimate, Minimality
from circuits.format import compact, estimate
from circuits.plot.figures.panels import label
from circuits.plot.plotly_figure import Plot

SHOWN = 48
"""Edges shown; of more, those of the largest |drop|, still in order."""


def minimality_dots(minimality: Minimality) -> Plot:
    """Drops in f from the largest, before the band of the control: random edges added alone.

    Args:
        minimality: whose drops need not be sorted.

    Returns:
        The figure, for plotly.
    """
    drops = sorted(minimality.drops.items(), key=lambda item: -abs(item[1].value))[:SHOWN]
    drops.sort(key=lambda item: -item[1].value)
    names = [name for name, _ in drops]
    values = [drop for _, drop in drops]
    certain = [drop.excludes_zero for drop in values]
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": title,
            "x": [rank for rank, excludes_zero in enumerate(certain) if excludes_zero is certainty],
            "y": compact([drop.value for drop, excludes_zero in zip(values, certain, strict=True)
                          if excludes_zero is certainty]),
            "customdata": [
                f"<b>{label(name)}</b><br>drop in f: {estimate(drop, 4)}"
                for name, drop, excludes_zero in zip(names, values, certain, strict=True)
                if excludes_zero is certainty
            ],
            "hovertemplate": "%{customdata}<extra></extra>",
            "marker": {
                "color": "$positive" if certainty else "$paper",
                "size": 7,
                "line": {"color": "$positive", "width": 1.4},
            },
            "error_y": _bars(
                [drop for drop, excludes_zero in zip(values, certain, strict=True)
                 if excludes_zero is certainty]
            ),
        }
        for certainty, title in (
            (True, "interval excludes 0"),
            (False, "interval holds 0"),
        )
    ]  # fmt: skip
    control = [change.value for change in minimality.control.values()]
    shapes: list[Plot] = []
    if control:
        low, high = np.quantile(control, [0.025, 0.975]).tolist()
        shapes.append(_across(low, high, "$control/40"))
        data.append(
            _legend_only(f"random {minimality.level}s added alone, central 95 %", "$control/60")
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
            "yaxis": {"title": {"text": "drop in f when removed"}},
            "margin": {"t": 46},
        },
    }


def _bars(drops: list[Estimate]) -> Plot:
    if any(math.isnan(drop.low) for drop in drops):  # of a single example
        return {}
    return {
        "type": "data",
        "symmetric": False,
        "array": compact([drop.high - drop.value for drop in drops]),
        "arrayminus": compact([drop.value - drop.low for drop in drops]),
        "color": "$positive",
        "thickness": 1.2,
        "width": 0,
    }


def _across(low: float, high: float, colour: str) -> Plot:
    shape: Plot = {
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


def _legend_only(name: str, colour: str) -> Plot:
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
