"""Attention and hidden states of two checkpoints: heads as a heatmap, layers as dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from circuits.format import compact, estimate, signed
from circuits.report.blocks import Plot
from circuits.report.figures.dots import Dot, Series, dot_panels
from circuits.report.figures.panels import panel_grid

_NUMBERED = 16  # heads up to which a cell holds its number


def heads_height(layers: int) -> int:
    """Pixels that the heatmaps need."""
    return 110 + layers * max(14, min(46, 560 // layers))


def head_heatmaps(kl: Mapping[str, Any], entropy_change: Mapping[str, Any]) -> Plot:
    """KL of attention, and the change of its entropy, by layer and head."""
    layers, heads = len(kl["value"]), len(kl["value"][0])
    layout = panel_grid(
        ["KL divergence of attention (nats)", "Change of attention entropy (nats)"],
        columns=2,
        height=heads_height(layers) - 110,
        gap=0.18,
        share_y=False,
        xaxis={"title": {"text": "head"}, "showgrid": False, "ticks": "", **_whole(heads)},
        yaxis={"title": {"text": "layer"}, "showgrid": False, "ticks": "", **_whole(layers)},
    )
    largest = max(abs(float(x)) for row in entropy_change["value"] for x in row) or 1.0
    layout["coloraxis"] = {
        "colorscale": "$balance",
        "cmin": -largest,
        "cmax": largest,
        "colorbar": {"x": 1.01, "len": 1, "nticks": 5, "title": {"text": "nats"}},
    }
    layout["margin"] = {"t": 34}
    both = []
    for number, found in (("", kl), ("2", entropy_change)):
        both.append(
            {
                "type": "heatmap",
                "z": compact(found["value"]),
                "customdata": _intervals(found),
                "hovertemplate": "a%{y}.h%{x}: %{customdata}<extra></extra>",
                "xgap": 2,
                "ygap": 2,
                "xaxis": f"x{number}",
                "yaxis": f"y{number}",
            }
        )
        if heads <= _NUMBERED:
            both[-1] |= {
                "text": [[signed(float(x), 2) for x in row] for row in found["value"]],
                "texttemplate": "%{text}",
                "textfont": {"size": 10},
            }
    both[0] |= {
        "zmin": 0,
        "zmax": max(float(x) for row in kl["value"] for x in row) or 1.0,
        "colorbar": {
            "x": 0.42,
            "xanchor": "left",
            "len": 1,
            "nticks": 5,
            "title": {"text": "nats"},
        },
    }
    both[1]["coloraxis"] = "coloraxis"
    return {"data": both, "layout": layout}


def _whole(count: int) -> dict[str, Any]:
    step = max(1, count // 16)
    return {"tickvals": list(range(0, count, step)), "range": [-0.5, count - 0.5]}


def _intervals(found: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            estimate({"value": value, "low": low, "high": high})
            for value, low, high in zip(*rows, strict=True)
        ]
        for rows in zip(found["value"], found["low"], found["high"], strict=True)
    ]


def layer_dots(found: Mapping[str, Mapping[str, Any]], titles: Sequence[str]) -> Plot:
    """One panel a measure, one row a layer, the last layer on top.

    found: averages by measure, each with `value`, `low` and `high` by layer.
    """
    layers = len(next(iter(found.values()))["value"])
    dots = [
        Dot(panel, layers - 1 - layer, value, low, high)
        for panel, one in enumerate(found.values())
        for layer, (value, low, high) in enumerate(
            zip(one["value"], one["low"], one["high"], strict=True)
        )
    ]
    return dot_panels(
        list(found),
        [f"layer {layer}" for layer in reversed(range(layers))],
        [Series("mean over documents", "$positive", dots)],
        columns=len(found),
        title=titles,
        pixels=26,
    )
