"""One line a model or a pair of models, from the first layer to the last."""

from __future__ import annotations

from collections.abc import Mapping

from circuits.format import compact, estimate
from circuits.plot.figures.panels import band, label
from circuits.plot.plotly_figure import Plot
from circuits.statistics.estimate import Estimates

_COLOURS = ("$positive", "$negative", "$green", "$purple", "$markline", "$control")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")


def layer_lines(lines: Mapping[str, Estimates], title: str) -> Plot:
    """A measure by layer, with a band for its interval.

    lines: estimates by layer, by the name of the line.
    """
    data: list[Plot] = []
    for index, (name, values) in enumerate(lines.items()):
        colour, symbol = (cycle[index % len(cycle)] for cycle in (_COLOURS, _SYMBOLS))
        layers = [float(layer) for layer in range(len(values))]
        low, high = compact(values.low.tolist()), compact(values.high.tolist())
        data.append(band(layers, low, high, colour) | {"legendgroup": name})
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": label(name),
                "legendgroup": name,
                "showlegend": True,
                "x": layers,
                "y": compact(values.value.tolist()),
                "line": {"color": colour, "width": 2},
                "marker": {"color": colour, "size": 7, "symbol": symbol},
                "customdata": [estimate(value, 4) for value in values],
                "hovertemplate": f"<b>{label(name)}</b>, layer %{{x}}<br>%{{customdata}}"
                "<extra></extra>",
            }
        )
    n_layers = max(len(values) for values in lines.values())
    return {
        "data": data,
        "layout": {
            "xaxis": {
                "title": {"text": "layer"},
                "showgrid": False,
                "dtick": max(1, n_layers // 16),
                "range": [-0.3, n_layers - 0.7],
            },
            "yaxis": {"title": {"text": title}, "rangemode": "tozero"},
            "margin": {"t": 40},
        },
    }
