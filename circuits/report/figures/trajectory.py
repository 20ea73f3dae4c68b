"""From checkpoint to checkpoint: strengths, the final circuit's edges, circuits in other models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from circuits.format import compact, estimate, general, percent, signed
from circuits.report.blocks import Plot
from circuits.report.figures.panels import label

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
_APART = 0.03  # of the axis: two ticks' numbers need as much


def courses(
    checkpoints: Sequence[str],
    steps: Sequence[int] | None,
    lines: Sequence[Mapping[str, Any]],
    *,
    title: str,
    shown: int = 8,
) -> Plot:
    """Values with intervals from checkpoint to checkpoint, a line a name."""
    data = []
    for place, line in enumerate(lines[:shown]):
        colour = line.get("colour", _COLOURS[place % len(_COLOURS)])
        name = label(line["name"])
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": _places(checkpoints, steps),
                "y": compact(line["values"]),
                "line": {"color": colour, "width": 2},
                "marker": {"color": colour, "size": 8, "symbol": _SYMBOLS[place % len(_SYMBOLS)]},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": _differences(line["high"], line["values"]),
                    "arrayminus": _differences(line["values"], line["low"]),
                    "color": colour,
                    "thickness": 1.2,
                    "width": 0,
                },
                "customdata": [
                    f"{label(checkpoint)}: {general(value)} [{general(low)}, {general(high)}]"
                    for checkpoint, value, low, high in zip(
                        checkpoints, line["values"], line["low"], line["high"], strict=True
                    )
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


def entry_bars(trajectory: Mapping[str, Any]) -> Plot:
    """How many edges of the final circuit entered, and settled, at each checkpoint."""
    checkpoints = list(trajectory["checkpoints"])
    entries = trajectory["entries"]
    data = []
    for key, name, colour in (
        ("first", "in the circuit for the first time", "$positive"),
        ("stable_from", "in it from then on", "$green"),
    ):
        counts = [sum(entry[key] == checkpoint for entry in entries) for checkpoint in checkpoints]
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
                "hovertemplate": f"%{{x}}: %{{y}} of {len(entries)} edges {name}<extra></extra>",
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


def entry_raster(trajectory: Mapping[str, Any]) -> Plot:
    """Each edge of the final circuit by checkpoint: the share of resamples that put it in."""
    checkpoints = list(trajectory["checkpoints"])
    entries = list(trajectory["entries"][:_AT_MOST])
    # Stable: within a checkpoint the strongest of the final circuit stand first.
    entries.sort(key=lambda entry: checkpoints.index(entry["first"]))
    names = [label(entry["edge"]) for entry in entries]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": [label(checkpoint) for checkpoint in checkpoints],
                "y": names,
                "z": compact([entry["inclusion"] for entry in entries], 3),
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
                "x": [label(entry["first"]) for entry in entries],
                "y": names,
                "marker": {
                    "symbol": "circle-open",
                    "color": "$negative",
                    "size": 8,
                    "line": {"width": 1.8},
                },
                "hovertemplate": "%{y} first enters at %{x}<extra></extra>",
                "showlegend": False,
            },
        ],
        "layout": {
            "xaxis": {"type": "category", "showgrid": False, "side": "top"},
            "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False, "ticks": ""},
            "margin": {"t": 30},
        },
    }


def raster_height(trajectory: Mapping[str, Any]) -> int:
    """Pixels that the raster needs."""
    return 70 + 17 * min(_AT_MOST, len(trajectory["entries"]))


def cross_evaluation_matrix(found: Mapping[str, Any]) -> Plot:
    """f of every circuit in every model."""
    rows = found["rows"]
    circuits = [f"circuit of {name}" for name in found["circuits"]]
    f = [[one["value"] for one in row["f"]] or [None] * len(circuits) for row in rows]
    texts = [
        [estimate(one) for one in row["f"]] or [row["undefined"]] * len(circuits) for row in rows
    ]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": [label(name) for name in circuits],
                "y": [f"in {label(row['model'])}" for row in rows],
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


def matrix_height(found: Mapping[str, Any]) -> int:
    """Pixels that the matrix needs."""
    return 70 + 46 * len(found["rows"])


def cross_evaluation_courses(found: Mapping[str, Any]) -> Plot:
    """Faithfulness by training step: of each model's own circuit, and of the last and the first."""
    names = [row["model"] for row in found["rows"]]
    circuits = list(found["circuits"])
    chosen = (
        ("its own circuit", "$positive", [_own(row, circuits) for row in found["rows"]]),
        (f"the circuit of {circuits[-1]}", "$green", [_at(row, -1) for row in found["rows"]]),
        (f"the circuit of {circuits[0]}", "$negative", [_at(row, 0) for row in found["rows"]]),
        ("a random circuit", "$control", [row["control"] for row in found["rows"]]),
    )
    lines = []
    for name, colour, estimates in chosen:
        picked = [one or {"value": None, "low": None, "high": None} for one in estimates]
        if any(one["value"] is not None for one in picked):
            lines.append(
                {
                    "name": name,
                    "colour": colour,
                    "values": [one["value"] for one in picked],
                    "low": [one["low"] for one in picked],
                    "high": [one["high"] for one in picked],
                }
            )
    plot = courses(names, found["steps"], lines, title="f, 1 = the whole model")
    plot["layout"]["yaxis"]["rangemode"] = "tozero"
    return plot


def _own(row: Mapping[str, Any], circuits: Sequence[str]) -> Mapping[str, Any] | None:
    return _at(row, circuits.index(row["model"])) if row["model"] in circuits else None


def _at(row: Mapping[str, Any], place: int) -> Mapping[str, Any] | None:
    one: Mapping[str, Any] | None = row["f"][place] if row["f"] else None
    return one


def shown_of(trajectory: Mapping[str, Any]) -> str:
    """How many of the final circuit's edges the raster shows."""
    entries = len(trajectory["entries"])
    if entries <= _AT_MOST:
        return ""
    return f" The {_AT_MOST} strongest of {entries} ({percent(_AT_MOST / entries, 0)}) are shown."


def _places(checkpoints: Sequence[str], steps: Sequence[int] | None) -> list[Any]:
    if not steps:
        return [label(checkpoint) for checkpoint in checkpoints]
    return list(map(str, steps)) if _crowded(steps) else list(steps)


def _crowded(steps: Sequence[int]) -> bool:
    """Whether steps such as 0, 1, 2, 4 ... 512 would fall together on an axis to scale."""
    gaps = [later - earlier for earlier, later in pairwise(sorted(steps))]
    return bool(gaps) and min(gaps) < min(_APART * sum(gaps), sum(gaps) / len(gaps) / 4)


def _axis(steps: Sequence[int] | None) -> dict[str, Any]:
    if not steps:
        return {"type": "category", "showgrid": False}
    if _crowded(steps):
        title = {"text": "training step (not to scale)"}
        return {"type": "category", "title": title, "showgrid": False}
    axis = {"title": {"text": "training step"}, "showgrid": False}
    return {**axis, "tickvals": list(steps)} if len(steps) <= _TICKS else axis


def _differences(upper: Sequence[float | None], lower: Sequence[float | None]) -> Any:
    return compact(
        [0.0 if a is None or b is None else a - b for a, b in zip(upper, lower, strict=True)]
    )
