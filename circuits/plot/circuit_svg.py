"""The drawing of a circuit as SVG, in the figure's own places and colours.

It needs neither a browser nor plotly. Colours stand twice: as attributes, light, which every
program reads, and as a style sheet that takes over where the reader's system is dark. Nothing in it
is a script, and nothing is loaded.
"""

from __future__ import annotations

import html
import re

from circuits.format import Number, count
from circuits.graph import AnyCircuit
from circuits.plot.figures.circuit_graph import circuit_graph, graph_height
from circuits.plot.palette import COLOURS, DARK, FONT, LIGHT
from circuits.plot.plotly_figure import WIDTH, Plot

_TOP, _RIGHT, _BOTTOM, _LETTER = 24, 10, 10, 6.4  # pixels; a letter's of a layer's name
_REACH = 10
"""Pixels around a thin edge that still show its name."""
_PAIR = re.compile(r"(-?[\d.]+),(-?[\d.]+)")


def circuit_svg(circuit: AnyCircuit) -> str:
    """The circuit drawn from the input below to the logits above.

    Args:
        circuit: of edges; of nodes or neurons, its nodes alone.

    Returns:
        An `<svg>` element that stands alone. Each edge and node names itself on hovering.
    """
    plot, height = circuit_graph(circuit), graph_height(circuit.layout)
    coordinates = _Places(plot, height)
    shapes = plot["layout"]["shapes"]
    *nodes, handles = plot["data"]
    edge_labels = iter(handles["customdata"])
    parts = [f'<rect width="{WIDTH}" height="{height}" {_paint(fill="$paper")}/>']
    for shape in shapes:
        if shape["type"] == "rect":
            parts.append(_ground(shape, coordinates))
        else:
            name, score = next(edge_labels)
            parts.append(_edge(shape, f"{name}, score {score}", coordinates))
    axis = plot["layout"]["yaxis"]
    for value, text in zip(axis["tickvals"], axis["ticktext"], strict=True):
        parts.append(
            _text(text, coordinates.left - 8, coordinates.y(value), 11, "$muted", anchor="end")
        )
    for trace in nodes:
        parts += _marks(trace, coordinates)
    label = f"A circuit of {count(len(circuit))} {circuit.level}s, from the input to the logits"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="circuits-drawing" role="img" '
        f'aria-label="{label}" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f"font-family='{FONT}'>\n<style>{_style()}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


class _Places:
    """From the figure's coordinates to pixels."""

    def __init__(self, plot: Plot, height: int) -> None:
        layout = plot["layout"]
        names = layout["yaxis"]["ticktext"]
        self.left = 22 + round(_LETTER * max(map(len, names), default=0), 1)
        (x0, x1), (y0, y1) = layout["xaxis"]["range"], layout["yaxis"]["range"]
        self._x0, self._y1 = float(x0), float(y1)
        self._across: float = (WIDTH - self.left - _RIGHT) / (x1 - x0)
        self._down: float = (height - _TOP - _BOTTOM) / (y1 - y0)

    def x(self, value: float) -> float:
        return round(self.left + (value - self._x0) * self._across, 1)

    def y(self, value: float) -> float:
        return round(_TOP + (self._y1 - value) * self._down, 1)

    def path(self, text: str) -> str:
        """A path whose numbers are pairs of coordinates."""
        return _PAIR.sub(lambda pair: f"{self.x(float(pair[1]))},{self.y(float(pair[2]))}", text)


def _ground(shape: Plot, coordinates: _Places) -> str:
    x, y = coordinates.x(shape["x0"]), coordinates.y(shape["y1"])
    width, height = coordinates.x(shape["x1"]) - x, coordinates.y(shape["y0"]) - y
    paint = _paint(fill=shape["fillcolor"])
    return f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{height:.1f}" {paint}/>'


def _edge(shape: Plot, title: str, coordinates: _Places) -> str:
    path, line = coordinates.path(shape["path"]), shape["line"]
    return (
        f'<g class="edge"><title>{title}</title>'
        f'<path d="{path}" fill="none" stroke-width="{line["width"]}" '
        f'opacity="{shape["opacity"]}" {_paint(stroke=line["color"])}/>'
        f'<path d="{path}" fill="none" stroke="#000" stroke-opacity="0" '
        f'stroke-width="{_REACH}"/></g>'
    )


def _marks(trace: Plot, coordinates: _Places) -> list[str]:
    """The nodes of one kind, each with its name inside and what it says on hovering."""
    marker = trace["marker"]
    paint = _paint(fill=marker["color"], stroke=marker["line"]["color"])
    paint += f' stroke-width="{marker["line"]["width"]}"'
    texts = trace["text"] or [""] * len(trace["x"])
    font = trace["textfont"]
    marks = []
    for x, y, text, hover in zip(trace["x"], trace["y"], texts, trace["customdata"], strict=True):
        shape = _shape(marker["symbol"], coordinates.x(x), coordinates.y(y), marker["size"] / 2)
        word = (
            _text(text, coordinates.x(x), coordinates.y(y), font["size"], font["color"])
            if text
            else ""
        )
        title = re.sub(r"</?b>", "", hover).replace("<br>", ": ")
        marks.append(f"<g><title>{title}</title><{shape} {paint}/>{word}</g>")
    return marks


def _shape(symbol: str, x: float, y: float, r: float) -> str:
    if symbol == "circle":
        return f'circle cx="{x}" cy="{y}" r="{r}"'
    if symbol == "square":
        return f'rect x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}"'
    half, high = r / 2, r * 3**0.5 / 2
    corners = {
        "diamond": ((0, -r), (r, 0), (0, r), (-r, 0)),
        "hexagon2": ((r, 0), (half, high), (-half, high), (-r, 0), (-half, -high), (half, -high)),
    }[symbol]
    return f'polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)}"'


def _text(
    text: str, x: float, y: float, size: Number, colour: str, *, anchor: str = "middle"
) -> str:
    return (
        f'<text x="{x}" y="{y}" dy="0.35em" font-size="{size}" text-anchor="{anchor}" '
        f"{_paint(fill=colour)}>{html.escape(text)}</text>"
    )


def _paint(**colours: str) -> str:
    """Colours of the palette as attributes, `fill="$paper"`; `$faint/77` has an alpha."""
    classes, attributes = [], []
    for attribute, colour in colours.items():
        name, _, alpha = colour[1:].partition("/")
        classes.append(f"{attribute}-{name}")
        attributes.append(f'{attribute}="{LIGHT[name]}"')
        if alpha:
            attributes.append(f'{attribute}-opacity="{int(alpha, 16) / 255:.2f}"')
    return f'class="{" ".join(classes)}" {" ".join(attributes)}'


def _style() -> str:
    """Dark colours where the system asks for them, and an edge pointed at stands out."""
    dark = "".join(
        f".circuits-drawing .{attribute}-{name}{{{attribute}:{DARK[name]}}}"
        for name in COLOURS
        for attribute in ("fill", "stroke")
    )
    return (
        ".circuits-drawing{max-width:100%;height:auto}"
        ".circuits-drawing text{pointer-events:none}"
        ".circuits-drawing .edge:hover path{opacity:1}"
        f"@media (prefers-color-scheme:dark){{{dark}}}"
    )
