"""One line a model or a pair of models, from the first layer to the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from circuits.format import compact, estimate
from circuits.report.blocks import Plot
from circuits.report.figures.panels import band, label

_COLOURS = ("$positive", "$negative", "$green", "$purple", "$markline", "$control")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")


def layer_lines(
    found: Mapping[str, Mapping[str, Sequence[float]]], title: str, *, from_zero: bool = True
) -> Plot:
    """A measure by layer, with a band for its interval.

    found: `value`, `low` and `high` by layer, by the name of the line.
    """
    data: list[dict[str, Any]] = []
    for place, (name, one) in enumerate(found.items()):
        colour, symbol = (each[place % len(each)] for each in (_COLOURS, _SYMBOLS))
        layers = [float(layer) for layer in range(len(one["value"]))]
        data.append(
            band(layers, compact(list(one["low"])), compact(list(one["high"])), colour)
            | {"legendgroup": name}
        )
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": label(name),
                "legendgroup": name,
                "showlegend": True,
                "x": layers,
                "y": compact(list(one["value"])),
                "line": {"color": colour, "width": 2},
                "marker": {"color": colour, "size": 7, "symbol": symbol},
                "customdata": [
                    estimate({"value": value, "low": low, "high": high}, 4)
                    for value, low, high in zip(one["value"], one["low"], one["high"], strict=True)
                ],
                "hovertemplate": f"<b>{label(name)}</b>, layer %{{x}}<br>%{{customdata}}"
                "<extra></extra>",
            }
        )
    layers_count = max(len(one["value"]) for one in found.values())
    return {
        "data": data,
        "layout": {
            "xaxis": {
                "title": {"text": "layer"},
                "showgrid": False,
                "dtick": max(1, layers_count // 16),
                "range": [-0.3, layers_count - 0.7],
            },
            "yaxis": {
                "title": {"text": title},
                **({"rangemode": "tozero"} if from_zero else {}),
            },
            "margin": {"t": 40},
        },
    }
