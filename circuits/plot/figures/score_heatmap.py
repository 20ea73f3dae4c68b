"""Every edge's score: sources by readers."""

from __future__ import annotations

from circuits.format import compact, general
from circuits.graph import Circuit, EdgeScores, Layout
from circuits.plot.figures.panels import label
from circuits.plot.plotly_figure import Plot

DOTTED = 120
"""Readers up to which the circuit's cells are marked."""
_NAMED = 44  # rows up to which each is named
_PORTED = 80  # groups of readers up to which q, k, v and m are named


def heatmap_height(layout: Layout) -> int:
    """Pixels that the heatmap needs."""
    rows = layout.shape[0]
    return 120 + rows * (20 if rows <= _NAMED else max(2, min(12, 640 // rows)))


def score_heatmap(scores: EdgeScores, circuit: Circuit | None = None) -> Plot:
    """Signed scores, colour by the root of |score|; impossible edges are blank."""
    layout = scores.layout
    readers = [label(name) for name in layout.readers]
    sources = [label(name) for name in layout.sources]
    mask = layout.mask.tolist()
    z = [
        [
            compact(value, 3) if possible else None
            for value, possible in zip(row, row_mask, strict=True)
        ]
        for row, row_mask in zip(scores.matrix.tolist(), mask, strict=True)
    ]
    largest = float(scores.matrix.abs().max()) or 1.0
    data: list[Plot] = [
        {
            "type": "heatmap",
            "x": readers,
            "y": sources,
            "z": z,
            "coloraxis": "coloraxis",
            "hovertemplate": "%{y}->%{x}<br>score %{z:.3g}<extra></extra>",
            "hoverongaps": False,
        }
    ]
    if circuit is not None and len(readers) <= DOTTED:
        edge_indices = circuit.mask.nonzero().tolist()
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [readers[column] for _, column in edge_indices],
                "y": [sources[row] for row, _ in edge_indices],
                "marker": {"size": 4, "color": "$ink", "line": {"color": "$paper", "width": 0.8}},
                "hoverinfo": "skip",
            }
        )
    ticks = [-largest, -largest / 4, 0.0, largest / 4, largest]
    return {
        "data": data,
        "layout": {
            "showlegend": False,
            "margin": {"t": 26, "b": 50},
            "coloraxis": {
                "cmin": -largest,
                "cmax": largest,
                "colorbar": {
                    "title": {"text": "score (metric units)"},
                    "tickvals": ticks,
                    "ticktext": [general(tick) for tick in ticks],
                    "len": 1,
                    "x": 1.01,
                },
            },
            "xaxis": {
                "type": "category",
                "showgrid": False,
                "showticklabels": False,
                "ticks": "",
                "title": {
                    "text": "reader" if layout.n_layers <= 8 else "reader, by layer",
                    "standoff": 40,
                },
                "range": [-0.5, len(readers) - 0.5],
            },
            "yaxis": {
                "type": "category",
                "showgrid": False,
                **_source_ticks(layout, sources),
                "title": {"text": "source"},
                "range": [-0.5, len(sources) - 0.5],
            },
            "shapes": _lines(layout),
            "annotations": _reader_names(layout),
        },
    }


def _middle(names: list[str], start: int, stop: int) -> str:
    return names[(start + stop - 1) // 2]


def _source_ticks(layout: Layout, sources: list[str]) -> Plot:
    if len(sources) <= _NAMED:
        return {"tickvals": sources, "ticktext": sources}
    names = [_middle(sources, *_span(layout, layer)) for layer in range(layout.n_layers)]
    return {
        "tickvals": [sources[0], *names],
        "ticktext": ["input", *(f"layer {layer}" for layer in range(layout.n_layers))],
        "ticks": "",
    }


def _span(layout: Layout, layer: int) -> tuple[int, int]:
    rows = layout.head_rows(layer)
    return rows.start, rows.stop + 1


def _lines(layout: Layout) -> list[Plot]:
    """Lines between the layers, fainter ones between q, k, v and m."""
    wide, high = layout.shape[1], layout.shape[0]
    lines = []
    for layer in range(layout.n_layers):
        row = layout.head_rows(layer).start - 0.5
        column = layout.mlp_column(layer) + 0.5
        lines += [
            (-0.5, row, wide - 0.5, row, "$faint"),
            (column, -0.5, column, high - 0.5, "$faint"),
        ]
        if wide <= DOTTED:
            for span, _ in _ports(layout, layer)[:3]:
                lines.append((span.stop - 0.5, -0.5, span.stop - 0.5, row, "$grid"))
    return [
        {
            "type": "line",
            "x0": x0,
            "y0": y0,
            "x1": x1,
            "y1": y1,
            "line": {"color": colour, "width": 0.8},
        }
        for x0, y0, x1, y1, colour in lines
    ]


def _ports(layout: Layout, layer: int) -> list[tuple[slice, str]]:
    """A layer's groups of columns with their letters."""
    column = layout.mlp_column(layer)
    return [
        (layout.port_columns(layer, "q"), "q"),
        (layout.port_columns(layer, "k"), "k"),
        (layout.port_columns(layer, "v"), "v"),
        (slice(column, column + 1), "m"),
    ]


def _reader_names(layout: Layout) -> list[Plot]:
    """q, k, v and m under their columns, the layers' names under those, and the logits'."""
    names: list[tuple[float, str, int]] = [(layout.shape[1] - 1.5, "logits", -18)]
    for layer in range(layout.n_layers):
        start = layout.attention_columns(layer).start
        name = f"layer {layer}" if layout.n_layers <= 8 else str(layer)
        names.append(((start + layout.mlp_column(layer)) / 2, name, -18))
        if 4 * layout.n_layers <= _PORTED:
            names += [
                ((span.start + span.stop - 1) / 2, letter, -3)
                for span, letter in _ports(layout, layer)
            ]
    return [
        {
            "text": text,
            "x": x,
            "y": 0,
            "yref": "paper",
            "yshift": shift,
            "yanchor": "top",
            "xanchor": "left" if text == "logits" else "center",
            "font": {"size": 11, "color": "$muted"},
        }
        for x, text, shift in names
    ]
