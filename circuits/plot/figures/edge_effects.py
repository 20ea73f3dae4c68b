"""What single edges do, measured, and how far the estimates of a method are from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

from circuits.attribution.edge_effects import EdgeEffects
from circuits.format import compact, estimate, signed
from circuits.graph import EdgeScores
from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels, dots_height
from circuits.plot.figures.panels import axes_of, balanced, label, panel_grid
from circuits.plot.plotly_figure import Plot
from circuits.statistics.estimate import Estimate

SHOWN = 48
"""Edges in a figure of effects alone: the first ones."""

_PIXELS, _PANEL, _GAP = 15, 300, 84
_NAMED = 3  # edges named in a panel: those that are farthest off
_MARKS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


def effects_height(effects: EdgeEffects, panels: int) -> int:
    """Pixels that the figure needs."""
    if not panels:
        return dots_height(1, min(SHOWN, len(effects.edges)), 1, _PIXELS)
    rows = -(-panels // balanced([""] * panels, most=2))
    return rows * _PANEL + (rows - 1) * _GAP + 140


def effect_dots(effects: EdgeEffects) -> Plot:
    """Each edge's effect with its interval."""
    edges = effects.edges[:SHOWN]
    kinds: dict[bool, list[Dot]] = {True: [], False: []}
    for row, edge in enumerate(edges):
        effect = effects.means[row]
        text = f"<b>{label(edge)}</b><br>effect {estimate(effect)}"
        kinds[effect.excludes_zero].append(Dot(0, row, effect.value, effect.low, effect.high, text))
    series = [
        Series("interval excludes 0", "$positive", kinds[True], size=8),
        Series("interval holds 0", "$control", kinds[False], symbol="circle-open", size=8),
    ]
    return dot_panels(
        [""],
        list(edges),
        [dot_series for dot_series in series if dot_series.dots],
        ValueAxis(f"fall in {effects.metric} when corrupted alone", references=(0,)),
        columns=1,
        pixels=_PIXELS,
    )


def estimate_panels(effects: EdgeEffects, estimates: Sequence[EdgeScores]) -> Plot:
    """A panel for each method: its estimates against the effects; on the line it is right.

    Both axes go as the root of the value, so that edges of all sizes show.
    """
    means = [effects.means[index] for index in range(len(effects.edges))]
    guesses = [[scores[edge] for edge in effects.edges] for scores in estimates]
    largest = max(map(abs, chain((mean.value for mean in means), *guesses)))
    reach = math.sqrt(largest) * 1.08 or 1.0
    marks = [mark for mark in _MARKS if 0.15 * reach <= math.sqrt(mark) <= reach]
    ticks = [*[-mark for mark in reversed(marks)], 0.0, *marks]
    axis: Plot = {
        "range": [-reach, reach],
        "tickvals": [_root(tick) for tick in ticks],
        "ticktext": [f"{tick:g}" for tick in ticks],
        "tickangle": 0,
        "zeroline": True,
    }
    columns = balanced([""] * len(estimates), most=2)
    rows = -(-len(estimates) // columns)
    layout = panel_grid(
        [scores.method for scores in estimates],
        columns=columns,
        height=rows * _PANEL + (rows - 1) * _GAP,
        xaxis={**axis, "title": {"text": "measured"}},
        yaxis={**axis, "title": {"text": "estimated"}},
        gap_pixels=_GAP,
    )
    data: list[Plot] = []
    in_legend: set[str] = set()
    for panel, guessed in enumerate(guesses):
        axes = axes_of(panel)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [-reach, reach],
                "y": [-reach, reach],
                "line": {"color": "$faint", "width": 1},
                "hoverinfo": "skip",
                "showlegend": False,
                **axes,
            }
        )
        for wrong, title, colour, symbol in (
            (False, "right sign, or effect not told from 0", "$positive", "circle"),
            (True, "wrong sign", "$negative", "diamond"),
        ):
            indices = [
                index
                for index, (mean, guess) in enumerate(zip(means, guessed, strict=True))
                if wrong_sign(mean, guess) is wrong
            ]
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": title,
                    "legendgroup": title,
                    "showlegend": bool(indices) and title not in in_legend,
                    "x": compact([_root(means[index].value) for index in indices]),
                    "y": compact([_root(guessed[index]) for index in indices]),
                    "customdata": [
                        f"<b>{label(effects.edges[index])}</b><br>measured "
                        f"{estimate(means[index])}<br>estimated {signed(guessed[index])}"
                        for index in indices
                    ],
                    "hovertemplate": "%{customdata}<extra></extra>",
                    "marker": {"color": f"{colour}/b0", "size": 7, "symbol": symbol},
                    **axes,
                }
            )
            in_legend |= {title} if indices else set()
        layout["annotations"] += [
            _named(
                effects.edges[index], _root(means[index].value), _root(guessed[index]), reach, axes
            )
            for index in farthest(means, guessed)
        ]
    return {"data": data, "layout": layout}


def _named(edge: str, x: float, y: float, reach: float, axes: dict[str, str]) -> Plot:
    """An edge's name beside its dot, away from the line where there is room."""
    left = y > x or x > reach / 2
    return {
        "text": label(edge),
        "x": x,
        "y": y,
        "xref": axes["xaxis"],
        "yref": axes["yaxis"],
        "xanchor": "right" if left else "left",
        "xshift": -6 if left else 6,
        "showarrow": False,
        "font": {"size": 10, "color": "$muted"},
    }


def wrong_sign(effect: Estimate, guess: float) -> bool:
    """Whether an estimate says the opposite of an effect that is told from 0."""
    return effect.excludes_zero and effect.value * guess < 0


def farthest(means: Sequence[Estimate], guessed: Sequence[float]) -> list[int]:
    """The edges whose estimates are farthest off."""
    off = [abs(mean.value - guess) for mean, guess in zip(means, guessed, strict=True)]
    return sorted(range(len(off)), key=lambda index: -off[index])[:_NAMED]


def _root(value: float) -> float:
    return math.copysign(math.sqrt(abs(value)), value)
