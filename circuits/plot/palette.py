"""Colours of figures and report, light and dark, and the one plotly template made of them.

A plot names its colours (`$positive`, or `$positive/22` with an alpha in hexadecimal) and the page
looks them up in the scheme that the reader's system asks for. `resolve` does the same in Python.

Signed scores run from orange (works against the behaviour) over the paper's colour (nothing) to
blue (supports it), a pair told apart under every common form of colour blindness.
"""

from __future__ import annotations

from collections.abc import Mapping

Stop = list[float | str]
"""A place between 0 and 1, and the colour there."""
Palette = Mapping[str, str | list[Stop]]
"""Colours and colour scales by name."""

_STOPS = (0.0, 0.02, 0.06, 0.12, 0.22, 0.36, 0.56, 0.78, 1.0)


def _mix(start: str, end: str, share: float) -> str:
    """The colour that lies `share` of the way between two."""
    pairs = zip(bytes.fromhex(start[1:]), bytes.fromhex(end[1:]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _ramp(start: str, middle: str, end: str, share: float) -> str:
    return _mix(start, middle, share * 2) if share < 0.5 else _mix(middle, end, share * 2 - 1)


def _scales(paper: str, positive: tuple[str, str], negative: tuple[str, str]) -> Palette:
    """`signed`: colour goes as the root of |score|, so that small scores beside large ones show.

    `balance`: signed, colour proportional to the value. `amount`: the same from 0 upwards.
    `course`: of points, from early to late; its first colour still shows on the paper.
    """

    def diverging(power: float, stops: tuple[float, ...]) -> list[Stop]:
        up: list[Stop] = [[(1 + s) / 2, _ramp(paper, *positive, s**power)] for s in stops]
        down: list[Stop] = [
            [(1 - s) / 2, _ramp(paper, *negative, s**power)] for s in reversed(stops[1:])
        ]
        return [*down, *up]

    return {
        "signed": diverging(0.5, _STOPS),
        "balance": diverging(1.0, (0.0, 0.5, 1.0)),
        "amount": [[s, _ramp(paper, *positive, s)] for s in (0.0, 0.5, 1.0)],
        "course": [[s, _ramp(paper, *positive, 0.3 + 0.7 * s)] for s in (0.0, 0.3, 1.0)],
    }


LIGHT: Palette = {
    "paper": "#fdfdfb",
    "raised": "#f5f5f1",
    "ink": "#20262c",
    "muted": "#5c6771",
    "faint": "#b4bbc2",
    "grid": "#e7e8e5",
    "positive": "#2166a8",
    "negative": "#c4530f",
    "control": "#868e96",
    "mark": "#fbe8b4",
    "markline": "#d79a1c",
    "green": "#0f8a67",
    "purple": "#9a4f96",
    **_scales("#f7f6f2", ("#7fb2dc", "#0f3f78"), ("#f0a774", "#8c3405")),
}
DARK: Palette = {
    "paper": "#15191d",
    "raised": "#1d2227",
    "ink": "#e3e6e8",
    "muted": "#9aa5af",
    "faint": "#566069",
    "grid": "#2a3138",
    "positive": "#6cabea",
    "negative": "#ee8d4f",
    "control": "#8d969e",
    "mark": "#4b3c12",
    "markline": "#d9a63a",
    "green": "#4cc29b",
    "purple": "#cf8fcb",
    **_scales("#20262c", ("#3f7fba", "#a8d4ff"), ("#b5652a", "#ffc49a")),
}
COLOURS = tuple(name for name, value in LIGHT.items() if isinstance(value, str))

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

_AXIS: dict[str, object] = {
    "automargin": True,
    "gridcolor": "$grid",
    "linecolor": "$faint",
    "tickcolor": "$faint",
    "ticks": "outside",
    "ticklen": 4,
    "zeroline": False,
    "zerolinecolor": "$faint",
    "title": {"font": {"size": 12, "color": "$muted"}, "standoff": 10},
    "tickfont": {"size": 11, "color": "$muted"},
}
_BAR = {
    "thickness": 10,
    "outlinewidth": 0,
    "ticklen": 3,
    "tickcolor": "$faint",
    "tickfont": {"size": 10, "color": "$muted"},
    "title": {"side": "right", "font": {"size": 11, "color": "$muted"}},
}
TEMPLATE: dict[str, object] = {
    "layout": {
        "font": {"family": FONT, "size": 12, "color": "$ink"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": ["$positive", "$negative", "$green", "$purple", "$markline", "$control"],
        "coloraxis": {"colorscale": "$signed", "cmid": 0, "colorbar": _BAR},
        "hoverlabel": {
            "bgcolor": "$raised",
            "bordercolor": "$faint",
            "font": {"family": FONT, "size": 12, "color": "$ink"},
            "align": "left",
        },
        "hovermode": "closest",
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12, "color": "$ink"},
            "bgcolor": "rgba(0,0,0,0)",
        },
        "margin": {"l": 10, "r": 16, "t": 40, "b": 10},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "$faint", "activecolor": "$muted"},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "annotationdefaults": {"font": {"size": 12, "color": "$ink"}, "showarrow": False},
    },
    "data": {
        "heatmap": [{"colorscale": "$amount", "colorbar": _BAR, "hoverongaps": False}],
    },
}


def css_variables(selector: str) -> str:
    """The palette as CSS variables of what is selected, dark where the system asks for it."""

    def variables(palette: Palette) -> str:
        return "".join(f"--{name}:{palette[name]};" for name in COLOURS)

    return (
        f"{selector}{{color-scheme:light dark;{variables(LIGHT)}}}\n"
        f"@media (prefers-color-scheme:dark){{{selector}{{{variables(DARK)}}}}}\n"
    )


def resolve(value: object, palette: Palette) -> object:
    """A plot with its colour names replaced by the palette's colours."""
    if isinstance(value, dict):
        return {name: resolve(item, palette) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(item, palette) for item in value]
    if isinstance(value, str) and value.startswith("$"):
        name, _, alpha = value[1:].partition("/")
        colour = palette.get(name)  # none where a token is a price
        if colour is not None:
            return colour + alpha if isinstance(colour, str) else colour
    return value
