"""Attention and hidden states of two checkpoints: heads as a heatmap, layers as dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from circuits.format import compact, estimate, signed
from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels
from circuits.plot.figures.panels import panel_grid
from circuits.plot.plotly_figure import Plot
from circuits.statistics.estimate import Estimates

_NUMBERED = 16  # heads up to which a cell holds its number


def heads_height(layers: int) -> int:
    """Pixels that the heatmaps need."""
    return 110 + layers * max(14, min(46, 560 // layers))


def head_heatmaps(kl: Estimates, entropy_change: Estimates) -> Plot:
    """KL of attention, and the change of its entropy, by layer and head."""
    layers, heads = kl.value.shape
    layout = panel_grid(
        ["KL divergence of attention (nats)", "Change of attention entropy (nats)"],
        columns=2,
        height=heads_height(layers) - 110,
        gap=0.18,
        share_y=False,
        xaxis={"title": {"text": "head"}, "showgrid": False, "ticks": "", **_whole(heads)},
        yaxis={"title": {"text": "layer"}, "showgrid": False, "ticks": "", **_whole(layers)},
    )
    largest = float(entropy_change.value.abs().max()) or 1.0
    layout["coloraxis"] = {
        "colorscale": "$balance",
        "cmin": -largest,
        "cmax": largest,
        "colorbar": {"x": 1.01, "len": 1, "nticks": 5, "title": {"text": "nats"}},
    }
    layout["margin"] = {"t": 34}
    traces: list[Plot] = []
    for number, values in (("", kl), ("2", entropy_change)):
        traces.append(
            {
                "type": "heatmap",
                "z": compact(values.value.tolist()),
                "customdata": [
                    [estimate(value) for value in values.row(layer)] for layer in range(layers)
                ],
                "hovertemplate": "a%{y}.h%{x}: %{customdata}<extra></extra>",
                "xgap": 2,
                "ygap": 2,
                "xaxis": f"x{number}",
                "yaxis": f"y{number}",
            }
        )
        if heads <= _NUMBERED:
            traces[-1] |= {
                "text": [[signed(value, 2) for value in row] for row in values.value.tolist()],
                "texttemplate": "%{text}",
                "textfont": {"size": 10},
            }
    traces[0] |= {
        "zmin": 0,
        "zmax": float(kl.value.max()) or 1.0,
        "colorbar": {
            "x": 0.42,
            "xanchor": "left",
            "len": 1,
            "nticks": 5,
            "title": {"text": "nats"},
        },
    }
    traces[1]["coloraxis"] = "coloraxis"
    return {"data": traces, "layout": layout}


def _whole(count: int) -> Plot:
    step = max(1, count // 16)
    return {"tickvals": list(range(0, count, step)), "range": [-0.5, count - 0.5]}


def layer_dots(measures: Mapping[str, Estimates], titles: Sequence[str]) -> Plot:
    """One panel a measure, one row a layer, the last layer on top."""
    layers = len(next(iter(measures.values())))
    dots = [
        Dot(panel, layers - 1 - layer, estimate.value, estimate.low, estimate.high)
        for panel, values in enumerate(measures.values())
        for layer, estimate in enumerate(values)
    ]
    return dot_panels(
        list(measures),
        [f"layer {layer}" for layer in reversed(range(layers))],
        [Series("mean over documents", "$positive", dots)],
        ValueAxis(titles),
        columns=len(measures),
        pixels=26,
    )
