"""The circuit as a layered drawing: input at the bottom, logits on top, edges lead upwards."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from circuits.format import general
from circuits.graph import AnyCircuit, Layout, Node, NodeCircuit
from circuits.plot.figures.panels import label
from circuits.plot.plotly_figure import Plot

DRAWN = 150
"""Edges drawn at most, the largest by |score|."""
_ROOMY = 16  # heads a layer, up to which a name fits into a dot
_PORTS = {"q": -0.1, "k": 0.0, "v": 0.1}
_ENDS = ("input", "bias", "logits")
_SYMBOLS = {"head": "circle", "cross": "diamond", "mlp": "square"}
_Row = tuple[bool, int | None, str, bool]  # encoder, layer, kind, cross-attention


@dataclass(frozen=True)
class Line:
    """One drawn edge: from a node into one port of another."""

    source: str
    target: str
    reader: str
    score: float | None


def drawn_lines(circuit: AnyCircuit, limit: int = DRAWN) -> list[Line]:
    """The circuit's largest edges, smallest first, so that the strongest is drawn last.

    A circuit of nodes has none: all its nodes read all that stand before them.
    """
    if isinstance(circuit, NodeCircuit):
        return []
    layout = circuit.layout
    edge_indices = circuit.mask.nonzero().tolist()
    if circuit.scores is not None:
        values = circuit.scores
        edge_indices.sort(key=lambda index: -abs(float(values[index[0], index[1]])))
    lines = []
    for row, column in reversed(edge_indices[:limit]):
        score = None if circuit.scores is None else float(circuit.scores[row, column])
        targets = [layout.sources[target] for target in circuit.ends(column)] or ["logits"]
        lines += [
            Line(layout.sources[row], target, layout.readers[column], score) for target in targets
        ]
    return lines


def graph_height(layout: Layout) -> int:
    """Pixels that the drawing needs."""
    return 70 + len(_rows(layout)) * _row_pixels(layout)


def legend(circuit: AnyCircuit, strongest: str = "the strongest edge") -> str:
    """What the marks of the drawing mean, in sentences.

    strongest: the edge that widths are relative to.
    """
    crossed = "heads (diamonds of cross-attention)"
    heads = crossed if circuit.layout.n_encoder_layers else "heads"
    marks = f"Dots are {heads}, squares are MLPs, and faint nodes are outside the circuit."
    if isinstance(circuit, NodeCircuit):
        return f"{marks} No edges are drawn: each node reads all that stand before it."
    return (
        f"{marks} Blue edges support the behaviour, orange ones work against it. The width grows "
        f"with the root of |score|, relative to {strongest}."
    )


def circuit_graph(circuit: AnyCircuit) -> Plot:
    """Nodes of the circuit with their names, all others faint; edges as curves."""
    layout = circuit.layout
    lines = drawn_lines(circuit)
    largest = max((abs(line.score) for line in lines if line.score is not None), default=0.0)
    rows = _rows(layout)
    points = {name: _position(Node.parse(name), layout, rows) for name in layout.nodes}
    shapes, middles = [], []
    for line in lines:
        share = 1.0 if line.score is None or not largest else abs(line.score) / largest
        colour = "$negative" if line.score is not None and line.score < 0 else "$positive"
        path, middle = _curve(points[line.source], points[line.target], line, layout)
        shapes.append(
            {
                "type": "path",
                "path": path,
                "layer": "below",
                "opacity": round(0.3 + 0.6 * share**0.5, 2),
                "line": {"color": colour, "width": round(0.8 + 6.2 * share**0.5, 2)},
            }
        )
        middles.append((*middle, line))
    wide = _mlp_place(layout)
    floors = _floors(layout, rows)
    return {
        "data": [*_nodes(circuit, points), _handles(middles)],
        "layout": {
            "showlegend": False,
            "margin": {"l": 10, "r": 10, "t": 24, "b": 10},
            "shapes": [*(_ground(*floor, wide) for floor in floors.values()), *shapes],
            "xaxis": {"visible": False, "range": [-0.7, wide + 0.7], "fixedrange": True},
            "yaxis": {
                "range": [-0.7, len(rows) - 0.3],
                "fixedrange": True,
                "showgrid": False,
                "ticks": "",
                "tickvals": [(low + high) / 2 for low, high in floors.values()],
                "ticktext": list(floors),
            },
        },
    }


def _row(node: Node) -> _Row:
    """What stands beside each other; `bias` stands beside `input`."""
    kind = "input" if node.kind == "bias" else node.kind
    return node.encoder, node.layer, kind, node.cross


def _rows(layout: Layout) -> dict[_Row, int]:
    """Heights of the rows, from below in the order of computation: an encoder under its decoder."""
    rows: dict[_Row, int] = {}
    for name in layout.nodes:
        rows.setdefault(_row(Node.parse(name)), len(rows))
    return rows


def _mlp_place(layout: Layout) -> float:
    """Where the MLPs stand, to the right of the heads."""
    return layout.n_heads + 0.15


def _row_pixels(layout: Layout) -> int:
    return max(24, min(52, 1000 // (len(_rows(layout)) - 1)))


def _position(node: Node, layout: Layout, rows: dict[_Row, int]) -> tuple[float, float]:
    height, right = float(rows[_row(node)]), _mlp_place(layout)
    if node.kind == "head":
        assert node.head is not None
        return float(node.head), height
    return {"mlp": right, "bias": right / 2 + 1}.get(node.kind, right / 2), height


def _curve(
    start: tuple[float, float], end: tuple[float, float], line: Line, layout: Layout
) -> tuple[str, tuple[float, float]]:
    """A cubic that leaves and arrives vertically; within a column it bows aside.

    Returns the path and its point half-way, at which the edge is named on hovering.
    """
    (x0, y0), (x1, y1) = start, end
    port = Node.parse(line.reader).port
    shift = _PORTS[port] if port else 0.0
    rise = (y1 - y0) * 0.45
    bow = 0.0
    if abs(x1 - x0) < 0.01:
        side = 1 if x0 > _mlp_place(layout) / 2 else -1
        bow = side * min(0.85, 0.2 + 0.11 * (y1 - y0)) if y1 - y0 > 1 else 0.0
        rise = (y1 - y0) * 0.3
    control_points = (x0 + bow, y0 + rise, x1 + bow + 2 * shift, y1 - rise, x1 + shift, y1)
    path = f"M{x0:.2f},{y0:.2f}C" + ",".join(f"{value:.2f}" for value in control_points)
    middle = (x0 + 3 * control_points[0] + 3 * control_points[2] + control_points[4]) / 8
    return path, (round(middle, 3), round((y0 + y1) / 2, 3))


def _floors(layout: Layout, rows: dict[_Row, int]) -> dict[str, tuple[int, int]]:
    """The lowest and highest row of each layer, by its name."""
    floors: dict[str, tuple[int, int]] = {}
    for (encoder, layer, *_), height in rows.items():
        if layer is not None:
            stack = "encoder" if encoder else "decoder" if layout.n_encoder_layers else "layer"
            name = f"{stack} {layer}"
            floors[name] = (floors.get(name, (height, 0))[0], height)
    return floors


def _ground(low: int, high: int, wide: float) -> Plot:
    """A faint ground under a layer."""
    return {
        "type": "rect",
        "x0": -0.6,
        "x1": wide + 0.6,
        "y0": low - 0.45,
        "y1": high + 0.45,
        "fillcolor": "$raised",
        "line": {"width": 0},
        "layer": "below",
    }


def _nodes(circuit: AnyCircuit, points: dict[str, tuple[float, float]]) -> list[Plot]:
    """Traces of nodes: those of the circuit by kind, then the others."""
    inside = set(circuit.nodes)
    roomy = circuit.layout.n_heads <= _ROOMY
    size = min(32, max(12, _row_pixels(circuit.layout) - 6)) if roomy else 11
    groups: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for name in points:
        node = Node.parse(name)
        groups["cross" if node.cross else node.kind, name in inside].append(name)
    words = _described(circuit)
    traces = []
    for (kind, kept), names in groups.items():
        wide = kind in _ENDS
        labelled = roomy or wide
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text" if labelled else "markers",
                "x": [points[name][0] for name in names],
                "y": [points[name][1] for name in names],
                "text": [_short(name) for name in names] if labelled else None,
                "customdata": [words[name] for name in names],
                "hovertemplate": "%{customdata}<extra></extra>",
                "textfont": {
                    "size": 10 if size > 22 or wide else 9,
                    "color": "$ink" if kept else "$faint",
                },
                "marker": {
                    "symbol": "hexagon2" if wide else _SYMBOLS[kind],
                    "size": max(size, 34) + 8 if wide else size,
                    "color": "$paper" if kept else "$raised",
                    "line": {
                        "color": "$ink" if kept else "$faint/77",
                        "width": 1.4 if kept else 1,
                    },
                    "opacity": 1,
                },
            }
        )
    return traces


def _short(name: str) -> str:
    """The name without what its place in the drawing says."""
    return name.rpartition(".")[2]


def _described(circuit: AnyCircuit) -> dict[str, str]:
    """What hovering over a node says."""
    if isinstance(circuit, NodeCircuit):
        return _kept(circuit)
    leaving: dict[str, int] = defaultdict(int)
    arriving: dict[str, int] = defaultdict(int)
    layout = circuit.layout
    for row, column in circuit.mask.nonzero().tolist():
        leaving[layout.sources[row]] += 1
        targets = circuit.ends(column)
        for target in targets:
            arriving[layout.sources[target]] += 1
        if not targets:
            arriving["logits"] += 1
    return {
        name: f"<b>{name}</b><br>{arriving[name]} edges in, {leaving[name]} out"
        if arriving[name] or leaving[name]
        else f"<b>{name}</b><br>not in the circuit"
        for name in layout.nodes
    }


def _kept(circuit: NodeCircuit) -> dict[str, str]:
    """What hovering over a node of a circuit of nodes, or of their units, says."""
    widths = list(circuit.units.widths)
    scores: list[float] | list[None] = [None] * len(widths)
    if circuit.scores is not None:
        kept_scores = circuit.scores.where(circuit.mask, 0.0)
        scores = [float(part.sum()) for part in kept_scores.split(widths)]
    hovers = {"logits": "<b>logits</b>"}
    parts = zip(circuit.layout.sources, circuit.mask.split(widths), scores, strict=True)
    for name, part, score in parts:
        n = int(part.sum())
        units = f"{n} of {len(part)} units kept, " if len(part) > 1 else ""
        words = f"{units}score {general(score)}" if n else "not in the circuit"
        hovers[name] = f"<b>{name}</b><br>{words}"
    return hovers


def _handles(middles: list[tuple[float, float, Line]]) -> Plot:
    """Unseen points on the edges that show their names and scores on hovering."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [x for x, _, _ in middles],
        "y": [y for _, y, _ in middles],
        "customdata": [
            [label(f"{line.source}->{line.reader}"), general(line.score)] for *_, line in middles
        ],
        "hovertemplate": "%{customdata[0]}<br>score %{customdata[1]}<extra></extra>",
        "marker": {"size": 9, "opacity": 0, "color": "$muted"},
    }
