"""From checkpoint to checkpoint: strengths, the final circuit's edges, circuits in other models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from circuits.comparison import CrossEvaluation
from circuits.comparison.trajectory import Trajectory
from circuits.format import compact, estimate, general, percent, signed
from circuits.plot.figures.panels import label
from circuits.plot.plotly_figure import Plot
from circuits.statistics.estimate import Estimate

_COLOURS = (
    "$positive",
    "$negative",
    "$green",
    "$purple",
    "$markline",
    "$control",
    "$ink",
    "$muted",
)
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "hexagon")
_AT_MOST = 40  # edges in a raster
_TICKS = 10  # checkpoints up to which each has a tick
_UNDEFINED = Estimate(math.nan, math.nan, math.nan, 0)
_APART = 0.03  # of the axis: two ticks' numbers need as much


@dataclass(frozen=True)
class Line:
    """Figures by checkpoint; None where undefined. colour: None takes the next of the palette."""

    name: str
    values: Sequence[Estimate | None]
    colour: str | None = None


def trajectory_lines(
    checkpoints: Sequence[str],
    steps: Sequence[int] | None,
    lines: Sequence[Line],
    *,
    title: str,
    max_lines: int = 8,
) -> Plot:
    """Values with intervals from checkpoint to checkpoint, one line for each name."""
    data = []
    for index, line in enumerate(lines[:max_lines]):
        colour = line.colour or _COLOURS[index % len(_COLOURS)]
        name = label(line.name)
        values = [_UNDEFINED if value is None else value for value in line.values]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": _places(checkpoints, steps),
                "y": compact([point.value for point in values]),
                "line": {"color": colour, "width": 2},
                "marker": {"color": colour, "size": 8, "symbol": _SYMBOLS[index % len(_SYMBOLS)]},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": _lengths(point.high - point.value for point in values),
                    "arrayminus": _lengths(point.value - point.low for point in values),
                    "color": colour,
                    "thickness": 1.2,
                    "width": 0,
                },
                "customdata": [
                    f"{label(checkpoint)}: {general(point.value)} "
                    f"[{general(point.low)}, {general(point.high)}]"
                    for checkpoint, point in zip(checkpoints, values, strict=True)
                ],
                "hovertemplate": f"<b>{name}</b><br>%{{customdata}}<extra></extra>",
            }
        )
    return {
        "data": data,
        "layout": {
            "xaxis": _axis(steps),
            "yaxis": {"title": {"text": title}, "zeroline": True},
            "legend": {"orientation": "v", "x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top"},
            "margin": {"t": 16},
        },
    }


def inclusion_bars(trajectory: Trajectory) -> Plot:
    """How many edges of the final circuit are in each checkpoint's: first, and from then on."""
    checkpoints = trajectory.checkpoints
    edges = trajectory.inclusions
    data = []
    for name, colour, since in (
        (
            "in the circuit for the first time",
            "$positive",
            Counter(edge.first for edge in edges),
        ),
        ("in it from then on", "$green", Counter(edge.stable_from for edge in edges)),
    ):
        counts = [since[checkpoint] for checkpoint in checkpoints]
        data.append(
            {
                "type": "bar",
                "name": name,
                "x": [label(checkpoint) for checkpoint in checkpoints],
                "y": counts,
                "text": [str(count) for count in counts],
                "textposition": "outside",
                "cliponaxis": False,
                "marker": {"color": colour, "line": {"width": 0}},
                "hovertemplate": f"%{{x}}: %{{y}} of {len(edges)} edges {name}<extra></extra>",
            }
        )
    return {
        "data": data,
        "layout": {
            "xaxis": {"type": "category", "showgrid": False},
            "yaxis": {"title": {"text": "edges"}, "rangemode": "tozero"},
            "bargap": 0.35,
            "bargroupgap": 0.08,
        },
    }


def inclusion_raster(trajectory: Trajectory) -> Plot:
    """Each edge of the final circuit by checkpoint: the share of resamples that put it in."""
    checkpoints = trajectory.checkpoints
    # Stable: within a checkpoint the strongest of the final circuit stand first.
    edges = sorted(trajectory.inclusions[:_AT_MOST], key=lambda edge: checkpoints.index(edge.first))
    names = [label(edge.edge) for edge in edges]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": [label(checkpoint) for checkpoint in checkpoints],
                "y": names,
                "z": compact([edge.frequency for edge in edges], 3),
                "zmin": 0,
                "zmax": 1,
                "xgap": 2,
                "ygap": 1,
                "colorbar": {"title": {"text": "share of resamples"}},
                "hovertemplate": "%{y}, %{x}: in %{z:.0%} of resamples<extra></extra>",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": [label(edge.first) for edge in edges],
                "y": names,
                "marker": {
                    "symbol": "circle-open",
                    "color": "$negative",
                    "size": 8,
                    "line": {"width": 1.8},
                },
                "hovertemplate": "%{y} is first included at %{x}<extra></extra>",
                "showlegend": False,
            },
        ],
        "layout": {
            "xaxis": {"type": "category", "showgrid": False, "side": "top"},
            "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False, "ticks": ""},
            "margin": {"t": 30},
        },
    }


def raster_height(trajectory: Trajectory) -> int:
    """Pixels that the raster needs."""
    return 70 + 17 * min(_AT_MOST, len(trajectory.inclusions))


def cross_evaluation_matrix(evaluation: CrossEvaluation) -> Plot:
    """f of every circuit in every model."""
    rows = evaluation.rows
    circuits = [f"circuit of {name}" for name in evaluation.circuits]
    f = [[cell.value for cell in row.f] or [math.nan] * len(circuits) for row in rows]
    texts = [
        [estimate(cell) for cell in row.f] or [row.undefined or "undefined"] * len(circuits)
        for row in rows
    ]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": [label(name) for name in circuits],
                "y": [f"in {label(row.model)}" for row in rows],
                "z": compact(f, 4),
                "zmin": 0,
                "zmax": 1,
                "xgap": 2,
                "ygap": 2,
                "text": [[signed(value, 2) for value in line] for line in f],
                "texttemplate": "%{text}",
                "customdata": [[label(text) for text in line] for line in texts],
                "hovertemplate": "%{x}, %{y}<br>f = %{customdata}<extra></extra>",
                "colorbar": {"title": {"text": "f"}},
            }
        ],
        "layout": {
            "xaxis": {"type": "category", "showgrid": False, "side": "top", "ticks": ""},
            "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False, "ticks": ""},
            "margin": {"t": 30},
        },
    }


def matrix_height(evaluation: CrossEvaluation) -> int:
    """Pixels that the matrix needs."""
    return 70 + 46 * len(evaluation.rows)


def cross_evaluation_lines(evaluation: CrossEvaluation) -> Plot:
    """Faithfulness by training step: of each model's own circuit, and of the last and the first."""
    models = evaluation.models
    first, last = evaluation.circuits[0], evaluation.circuits[-1]
    lines = (
        Line("its own circuit", [evaluation.own(name) for name in models], "$positive"),
        Line(f"the circuit of {last}", [evaluation.f(name, last) for name in models], "$green"),
        Line(
            f"the circuit of {first}", [evaluation.f(name, first) for name in models], "$negative"
        ),
        Line("a random circuit", [row.control for row in evaluation.rows], "$control"),
    )
    defined = [line for line in lines if any(value is not None for value in line.values)]
    plot = trajectory_lines(
        models, evaluation.training_steps, defined, title="f, 1 = the whole model"
    )
    plot["layout"]["yaxis"]["rangemode"] = "tozero"
    return plot


def shown_of(trajectory: Trajectory) -> str:
    """How many of the final circuit's edges the raster shows."""
    edges = len(trajectory.inclusions)
    if edges <= _AT_MOST:
        return ""
    return f" The {_AT_MOST} strongest of {edges} ({percent(_AT_MOST / edges, 0)}) are shown."


def _places(checkpoints: Sequence[str], steps: Sequence[int] | None) -> Sequence[str | int]:
    if not steps:
        return [label(checkpoint) for checkpoint in checkpoints]
    return list(map(str, steps)) if _crowded(steps) else list(steps)


def _crowded(steps: Sequence[int]) -> bool:
    """Whether steps such as 0, 1, 2, 4 ... 512 would fall together on an axis to scale."""
    gaps = [later - earlier for earlier, later in pairwise(sorted(steps))]
    return bool(gaps) and min(gaps) < min(_APART * sum(gaps), sum(gaps) / len(gaps) / 4)


def _axis(steps: Sequence[int] | None) -> Plot:
    if not steps:
        return {"type": "category", "showgrid": False}
    if _crowded(steps):
        title = {"text": "training step (not to scale)"}
        return {"type": "category", "title": title, "showgrid": False}
    axis = {"title": {"text": "training step"}, "showgrid": False}
    return {**axis, "tickvals": list(steps)} if len(steps) <= _TICKS else axis


def _lengths(values: Iterable[float]) -> list[float | None]:
    """Of error bars; 0 where there is no interval."""
    return compact([0.0 if math.isnan(value) else value for value in values])
