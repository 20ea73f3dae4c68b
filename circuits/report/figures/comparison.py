"""What changed between checkpoints: likeness beside its ceiling, turnover, variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from circuits.format import compact, percent, signed
from circuits.report.blocks import Plot
from circuits.report.figures.dots import Dot, Series, dot_panels
from circuits.report.figures.panels import axes_of, panel_grid

LIKENESS = {
    "spearman": "rank correlation, all edges",
    "overlap": "weighted overlap, all edges",
    "edge_jaccard": "shared edges (Jaccard)",
    "weighted_jaccard": "shared edges, weighted",
    "node_jaccard": "shared nodes (Jaccard)",
}
VARIANCE = {
    "source": "source totals (nodes)",
    "reader": "reader totals (nodes)",
    "interaction": "single edges (rewiring)",
}


_ENDS = {"value": ("low", "high"), "permuted": ("permuted_low", "permuted_high")}


def middle(sizes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The size at which single figures are quoted."""
    return sizes[len(sizes) // 2]


def title_of(comparison: Mapping[str, Any]) -> str:
    """A comparison's two checkpoints."""
    return f"{comparison['before']} → {comparison['after']}"


def likeness_dots(comparisons: Sequence[Mapping[str, Any]], columns: int) -> Plot:
    """Across checkpoints on disjoint halves, with the interval of the gap to the noise ceiling."""
    across, noise = [], []
    notes = []
    for panel, one in enumerate(comparisons):
        measures = {**one, **middle(one["sizes"])}
        for row, name in enumerate(LIKENESS):
            found = measures[name]
            if found["across"] is None or found["noise"] is None:
                notes.append((panel, row, "undefined"))
                continue
            bounds: tuple[float | None, float | None] = (None, None)
            if found["gap_low"] is not None and found["gap_high"] is not None:
                bounds = (found["noise"] + found["gap_low"], found["noise"] + found["gap_high"])
            across.append(Dot(panel, row, found["across"], *bounds))
            noise.append(Dot(panel, row, found["noise"]))
    return dot_panels(
        [title_of(one) for one in comparisons],
        list(LIKENESS.values()),
        [
            Series(
                "one checkpoint with itself (noise ceiling)",
                "$control",
                noise,
                symbol="line-ns-open",
                size=15,
            ),
            Series("the two checkpoints", "$positive", across),
        ],
        columns=columns,
        title="likeness, 1 = the same",
        pixels=30,
        span=_span([*across, *noise], 1.04),
        notes=notes,
    )


def _span(dots: Sequence[Dot], most: float) -> tuple[float, float]:
    least = min((value for dot in dots for value in (dot.value, dot.low) if value is not None),
                default=0.0)  # fmt: skip
    return (min(-0.02, least - 0.04), most)


def turnover_bars(comparisons: Sequence[Mapping[str, Any]], columns: int) -> Plot:
    """Edges that came or went, by size of circuit; beside that with the labels swapped."""
    titles = [title_of(one) for one in comparisons]
    layout = panel_grid(
        titles,
        columns=columns,
        height=turnover_height(len(titles), columns) - 110,
        xaxis={"type": "category", "showgrid": False, "title": {"text": "circuit size"}},
        yaxis={"title": {"text": "share of the edges"}, "range": [0, 1.02]},
        gap=0.04,
    )
    kinds = (
        ("node_driven", "value", "came or went with a node", "$negative"),
        ("rewired", "value", "rewired between nodes of both", "$positive"),
        ("node_driven", "permuted", "labels swapped, with a node", "$negative/55"),
        ("rewired", "permuted", "labels swapped, rewired", "$positive/55"),
    )
    data = []
    for panel, one in enumerate(comparisons):
        sizes = [percent(size["share"], 1).replace(".0", "") for size in one["sizes"]]
        for name, side, title, colour in kinds:
            low, high = _ENDS[side]
            bar = {
                "type": "bar",
                "name": title,
                "legendgroup": title,
                "showlegend": panel == 0,
                "x": sizes,
                "y": compact([size[name][side] for size in one["sizes"]]),
                "offsetgroup": side,
                "base": None
                if name == "node_driven"
                else compact([size["node_driven"][side] or 0.0 for size in one["sizes"]]),
                "marker": {"color": colour, "line": {"width": 0}},
                "customdata": [
                    f"{signed(size[name][side])} "
                    f"[{signed(size[name][low])}, {signed(size[name][high])}]"
                    for size in one["sizes"]
                ],
                "hovertemplate": f"{title}<br>circuits of %{{x}} of all edges: %{{customdata}}"
                "<extra></extra>",
                **axes_of(panel),
            }
            if name == "rewired":  # stands on the other: its top is the whole turnover
                bar["error_y"] = _whole(one["sizes"], side)
            data.append(bar)
    layout["bargap"] = 0.3
    layout["bargroupgap"] = 0.06
    layout["legend"] = {"y": 1 + 26 / (turnover_height(len(titles), columns) - 110)}
    layout["margin"] = {"t": 66}
    return {"data": data, "layout": layout}


def _whole(sizes: Sequence[Mapping[str, Any]], side: str) -> dict[str, Any]:
    """The interval of the whole turnover, 1 - Jaccard, about the top of its bars."""
    low, high = _ENDS[side]
    shared = [size["edge_jaccard"] for size in sizes]
    return {
        "type": "data",
        "symmetric": False,
        "array": compact([one[side] - one[low] for one in shared]),
        "arrayminus": compact([one[high] - one[side] for one in shared]),
        "color": "$ink" if side == "value" else "$control",
        "thickness": 1.2,
        "width": 3,
    }


def turnover_height(panels: int, columns: int) -> int:
    """Pixels that the figure needs."""
    rows = -(-panels // min(columns, panels))
    return 110 + rows * 170 + (rows - 1) * 76


def variance_dots(comparisons: Sequence[Mapping[str, Any]], columns: int) -> Plot:
    """Shares of the variance of the score change, beside the shares under swapped labels."""
    found, chance, notes = [], [], []
    for panel, one in enumerate(comparisons):
        for row, name in enumerate(VARIANCE):
            part = one["variance"][name]
            if part["permuted"] is not None:
                chance.append(
                    Dot(panel, row, part["permuted"], part["permuted_low"], part["permuted_high"])
                )
            if part["value"] is None:
                notes.append((panel, row, "no change stands out"))
            else:
                found.append(Dot(panel, row, part["value"], part["low"], part["high"]))
    return dot_panels(
        [title_of(one) for one in comparisons],
        list(VARIANCE.values()),
        [
            Series(
                "checkpoints' labels swapped at random",
                "$control",
                chance,
                symbol="line-ns-open",
                place=0.18,
                size=11,
            ),
            Series("the change, noise left out", "$positive", found, place=-0.14),
        ],
        columns=columns,
        title="share of the variance",
        pixels=38,
        span=_span([*found, *chance], 1.04),
        notes=notes,
    )
