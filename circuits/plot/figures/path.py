"""The path of the hidden states over checkpoints, coloured by training step or by order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from circuits.format import compact, percent
from circuits.model_diff.hidden import Projection, RepresentationTrajectory
from circuits.plot.figures.panels import label
from circuits.plot.plotly_figure import Plot

HEIGHT = 520
_SHOWN = 4  # layers with a tab of their own


def path_views(states: RepresentationTrajectory) -> dict[str, Plot]:
    """Plots by the name of their tab: some layers in space, the last one flat and as UMAP."""
    last = len(states.layers) - 1
    shown_layers = sorted(
        {round(last * share / (_SHOWN - 1)) for share in range(_SHOWN)}, reverse=True
    )
    views = {}
    for layer in shown_layers:
        trajectory = states.layers[layer]
        shares = enumerate(trajectory.variance, start=1)
        names = [f"PC{number} ({percent(share, 0)})" for number, share in shares]
        views[f"layer {layer}"] = space(states, trajectory.pca, names)
        if layer == last:
            views[f"layer {layer}, flat"] = flat(states, trajectory.pca, names)
            if trajectory.umap is not None:
                axes = [f"UMAP {number + 1}" for number in range(3)]
                views[f"layer {layer}, UMAP"] = space(states, trajectory.umap, axes)
    return views


def space(states: RepresentationTrajectory, projection: Projection, names: Sequence[str]) -> Plot:
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
            for trace, z in zip(*_traces(states, projection), strict=True)
        ],
        "layout": {
            "scene": {
                **axes,
                "aspectmode": "data",
                "camera": {"eye": eye(projection.path.tolist())},
            },
            "showlegend": False,
            "coloraxis": _coloraxis(states),
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        },
    }


def eye(path: Sequence[Sequence[float]]) -> dict[str, float]:
    """Where to look from: there the distances between checkpoints are hidden the least."""
    points = np.array(path)
    offsets = points[:, None] - points
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    viewpoints = np.stack([2 * np.cos(turns), 2 * np.sin(turns), np.full(24, 0.9)])
    depth = offsets @ (viewpoints / np.linalg.norm(viewpoints[:, 0]))
    visible = np.square(offsets).sum(axis=2, keepdims=True) - np.square(depth)
    best = np.sqrt(visible.clip(min=0)).sum(axis=(0, 1)).round(6).argmax()
    return dict(zip("xyz", viewpoints[:, best].round(3).tolist(), strict=True))


def flat(states: RepresentationTrajectory, projection: Projection, names: Sequence[str]) -> Plot:
    """The first two components, for where there is no WebGL."""
    return {
        "data": [{**trace, "type": "scatter"} for trace in _traces(states, projection)[0]],
        "layout": {
            "xaxis": {"title": {"text": names[0]}},
            "yaxis": {"title": {"text": names[1]}, "scaleanchor": "x"},
            "showlegend": False,
            "coloraxis": _coloraxis(states),
            "margin": {"t": 16},
        },
    }


def _coloraxis(states: RepresentationTrajectory) -> Plot:
    order = _order(states)
    return {
        "colorscale": "$course",
        "cmin": min(order),
        "cmax": max(order),
        "colorbar": {"title": {"text": _what(states)}, "len": 0.8},
    }


def _order(states: RepresentationTrajectory) -> list[int]:
    """Training steps, or 0, 1, 2, ... where the checkpoints' names do not tell them."""
    return list(range(len(states.checkpoints)) if states.steps is None else states.steps)


def _what(states: RepresentationTrajectory) -> str:
    return "place in the order" if states.steps is None else "training step"


def _traces(
    states: RepresentationTrajectory, projection: Projection
) -> tuple[list[Plot], list[list[float | None]]]:
    """The cloud of document groups and the path through their means; the third coordinates."""
    names = [label(name) for name in states.checkpoints]
    steps = _order(states)
    n_groups = projection.groups.shape[1]
    cloud = projection.groups.flatten(0, 1).T.tolist()  # component (checkpoint group)
    path = projection.path.T.tolist()  # component checkpoint
    traces = [
        {
            "mode": "markers",
            "x": compact(cloud[0]),
            "y": compact(cloud[1]),
            "marker": {
                "color": [step for step in steps for _ in range(n_groups)],
                "coloraxis": "coloraxis",
                "size": 4,
                "opacity": 0.45,
            },
            "customdata": [name for name in names for _ in range(n_groups)],
            "hovertemplate": "some documents, %{customdata}<extra></extra>",
        },
        {
            "mode": "lines+markers+text",
            "x": compact(path[0]),
            "y": compact(path[1]),
            "text": names,
            "textposition": "top center",
            "textfont": {"size": 11, "color": "$ink"},
            "line": {"color": "$faint", "width": 3},
            "marker": {"color": steps, "coloraxis": "coloraxis", "size": 9},
            "customdata": steps,
            "hovertemplate": f"<b>%{{text}}</b>, {_what(states)} %{{customdata}}<extra></extra>",
        },
    ]
    return traces, [compact(cloud[2]), compact(path[2])]
