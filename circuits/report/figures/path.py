"""The path of the hidden states over checkpoints, coloured by training step or by order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from circuits.format import compact, percent
from circuits.report.blocks import Plot
from circuits.report.figures.panels import label

HEIGHT = 520
_SHOWN = 4  # layers with a tab of their own


def path_views(found: Mapping[str, Any]) -> dict[str, Plot]:
    """Plots by the name of their tab: some layers in space, the last one flat and as UMAP."""
    layers = found["layers"]
    last = len(layers) - 1
    chosen = sorted({round(last * share / (_SHOWN - 1)) for share in range(_SHOWN)}, reverse=True)
    views = {}
    for layer in chosen:
        one = layers[layer]
        names = [f"PC{k + 1} ({percent(share, 0)})" for k, share in enumerate(one["variance"])]
        views[f"layer {layer}"] = space(found, one, names)
        if layer == last:
            views[f"layer {layer}, flat"] = flat(found, one, names)
            if "umap" in one:
                axes = [f"UMAP {k + 1}" for k in range(3)]
                views[f"layer {layer}, UMAP"] = space(found, one["umap"], axes)
    return views


def space(found: Mapping[str, Any], one: Mapping[str, Any], names: Sequence[str]) -> Plot:
    """Three components."""
    axis = {
        "showbackground": False,
        "gridcolor": "$grid",
        "linecolor": "$faint",
        "zerolinecolor": "$faint",
        "tickfont": {"size": 10, "color": "$muted"},
    }
    axes = {
        f"{letter}axis": {**axis, "title": {"text": name, "font": {"color": "$muted", "size": 11}}}
        for letter, name in zip("xyz", names, strict=True)
    }
    return {
        "data": [
            {**trace, "type": "scatter3d", "z": z}
            for trace, z in zip(*_traces(found, one), strict=True)
        ],
        "layout": {
            "scene": {
                **axes,
                "aspectmode": "data",
                "camera": {"eye": eye(one["path"])},
            },
            "showlegend": False,
            "coloraxis": _coloraxis(found),
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        },
    }


def eye(path: Sequence[Sequence[float]]) -> dict[str, float]:
    """Where to look from: there the distances between checkpoints are hidden the least."""
    points = np.array(path)
    apart = points[:, None] - points
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    places = np.stack([2 * np.cos(turns), 2 * np.sin(turns), np.full(24, 0.9)])
    depth = apart @ (places / np.linalg.norm(places[:, 0]))
    seen = np.square(apart).sum(axis=2, keepdims=True) - np.square(depth)
    best = np.sqrt(seen.clip(min=0)).sum(axis=(0, 1)).round(6).argmax()
    return dict(zip("xyz", places[:, best].round(3).tolist(), strict=True))


def flat(found: Mapping[str, Any], one: Mapping[str, Any], names: Sequence[str]) -> Plot:
    """The first two components, for where there is no WebGL."""
    return {
        "data": [{**trace, "type": "scatter"} for trace in _traces(found, one)[0]],
        "layout": {
            "xaxis": {"title": {"text": names[0]}},
            "yaxis": {"title": {"text": names[1]}, "scaleanchor": "x"},
            "showlegend": False,
            "coloraxis": _coloraxis(found),
            "margin": {"t": 16},
        },
    }


def _coloraxis(found: Mapping[str, Any]) -> dict[str, Any]:
    order = _order(found)
    return {
        "colorscale": "$course",
        "cmin": min(order),
        "cmax": max(order),
        "colorbar": {"title": {"text": _what(found)}, "len": 0.8},
    }


def _order(found: Mapping[str, Any]) -> list[int]:
    """Training steps; places where the checkpoints' names do not tell them."""
    return list(found["steps"] or range(len(found["checkpoints"])))


def _what(found: Mapping[str, Any]) -> str:
    return "training step" if found["steps"] else "place in the order"


def _traces(
    found: Mapping[str, Any], one: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[Any]]:
    """The cloud of document groups and the path through their means; the third coordinates."""
    names = [label(name) for name in found["checkpoints"]]
    steps = _order(found)
    groups = len(one["groups"][0])
    cloud = [point for checkpoint in one["groups"] for point in checkpoint]
    traces = [
        {
            "mode": "markers",
            "x": compact([point[0] for point in cloud]),
            "y": compact([point[1] for point in cloud]),
            "marker": {
                "color": [step for step in steps for _ in range(groups)],
                "coloraxis": "coloraxis",
                "size": 4,
                "opacity": 0.45,
            },
            "customdata": [name for name in names for _ in range(groups)],
            "hovertemplate": "some documents, %{customdata}<extra></extra>",
        },
        {
            "mode": "lines+markers+text",
            "x": compact([point[0] for point in one["path"]]),
            "y": compact([point[1] for point in one["path"]]),
            "text": names,
            "textposition": "top center",
            "textfont": {"size": 11, "color": "$ink"},
            "line": {"color": "$faint", "width": 3},
            "marker": {"color": steps, "coloraxis": "coloraxis", "size": 9},
            "customdata": steps,
            "hovertemplate": f"<b>%{{text}}</b>, {_what(found)} %{{customdata}}<extra></extra>",
        },
    ]
    third = [[point[2] for point in cloud], [point[2] for point in one["path"]]]
    return traces, compact(third)
