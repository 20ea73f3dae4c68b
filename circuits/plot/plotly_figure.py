"""Plots as plotly figures that stand alone, and on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.errors import CircuitsError
from circuits.plot.palette import DARK, LIGHT, TEMPLATE, resolve

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Plot = dict[str, Any]  # Any: plotly types none of what a plot is made of
"""Plotly `data` and `layout` as plain values; colours by name, see `palette`."""

WIDTH = 920
_IMAGES = (".svg", ".png")


def as_figure(plot: Plot, *, height: int, dark: bool = False) -> Figure:
    """A plot in one of the two colour schemes.

    Args:
        plot: plotly `data` and `layout` with colours by name.
        height: pixels.
        dark: on a dark ground.

    Returns:
        A figure that shows itself in a notebook.
    """
    import plotly.graph_objects as go

    palette = DARK if dark else LIGHT
    figure = go.Figure(resolve(plot, palette))
    figure.update_layout(
        template=go.layout.Template(resolve(TEMPLATE, palette)),
        paper_bgcolor=palette["paper"],
        height=height,
        width=WIDTH,
    )
    return figure


def save(figure: Figure, path: str | Path, *, scale: float = 2.0) -> Path:
    """Write a figure, in the form that its ending names.

    Args:
        figure: what a function of `circuits.plot` gave.
        path: ends in .html (opens offline), .svg or .png.
        scale: pixels of a PNG for each pixel of the figure.

    Returns:
        The path.

    Raises:
        CircuitsError: for another ending, or where SVG or PNG is asked for and the optional
            package kaleido, or the browser that it draws with, is not installed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        figure.write_html(path, include_plotlyjs=True)
        return path
    if path.suffix not in _IMAGES:
        raise CircuitsError(f"{path}: a figure is saved as .html, {', '.join(_IMAGES)}")
    try:
        figure.write_image(path, scale=scale)
    except (ValueError, ImportError, RuntimeError) as error:
        raise CircuitsError(
            f"{path}: {path.suffix[1:]} needs the package kaleido and a Chrome or Chromium "
            "(`pip install kaleido`, `plotly_get_chrome`); .html needs neither"
        ) from error
    return path
