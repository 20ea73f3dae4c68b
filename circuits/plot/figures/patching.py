"""A patching sweep: a heatmap with the tokens on the axis, or dots where one axis is swept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.format import compact, general, interval, signed
from circuits.intervention.patching import Axis, Patching
from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels, dots_height
from circuits.plot.figures.panels import label
from circuits.plot.plotly_figure import Plot
from circuits.statistics.estimate import Estimates

_NUMBERED = 16  # columns up to which a cell holds its number
_TICKS = 80  # labels that fit along x
_LETTERS = 16  # of a label
_DOTS = 26  # pixels a row of dots


@dataclass(frozen=True)
class Effect:
    """What is drawn: 0 where a patch does nothing.

    estimates: in the shape of the sweep; no intervals where the metric has no recovery.
    words: what they are. of_gap: whether they are shares of the gap.
    """

    estimates: Estimates
    words: str
    of_gap: bool = True

    @classmethod
    def of(cls, patching: Patching, metric: str) -> Effect:
        """Share of the gap that a patch closes, or the metric's change where there is no gap."""
        if patching.undefined(metric):
            unpatched = patching.corrupted if patching.direction == "denoise" else patching.clean
            change = (patching.values[metric] - _spread(unpatched[metric], patching)).nanmean(dim=0)
            none = torch.full_like(change, math.nan)
            return cls(Estimates(change, none, none, patching.n), f"change of {metric}", False)
        share = patching.recovery(metric)
        if patching.direction == "denoise":
            return cls(share, "share of the gap recovered")
        lost_share = Estimates(1 - share.value, 1 - share.high, 1 - share.low, share.n)
        return cls(lost_share, "share of the gap lost")


def patching_height(patching: Patching) -> int:
    """Pixels that the figure needs."""
    if len(patching.axes) == 1:
        return dots_height(1, len(patching.axes[0].values), 1, _DOTS)
    rows = _size(patching.axes[:-1])
    return 170 + max(150, rows * max(3, min(34, 620 // rows)))


def patching_plot(patching: Patching, metric: str) -> Plot:
    """The effect of every patch on a metric."""
    effect = Effect.of(patching, metric)
    return (
        _dots(patching, metric, effect)
        if len(patching.axes) == 1
        else _heatmap(patching, effect, metric)
    )


def _dots(patching: Patching, metric: str, effect: Effect) -> Plot:
    dots = [
        Dot(0, row, estimate.value, _end(estimate.low), _end(estimate.high))
        for row, estimate in enumerate(effect.estimates)
        if math.isfinite(estimate.value)
    ]
    return dot_panels(
        [metric],
        patching.axes[0].labels,
        [Series(effect.words, "$positive", dots)],
        ValueAxis(effect.words, references=(0.0, 1.0) if effect.of_gap else (0.0,)),
        columns=1,
        pixels=_DOTS,
    )


def _heatmap(patching: Patching, effect: Effect, metric: str) -> Plot:
    *outer, across = patching.axes
    rows = _rows(tuple(outer))
    value = effect.estimates.value.reshape(len(rows), -1)
    largest = float(value.nan_to_num(0.0, posinf=0.0, neginf=0.0).abs().max()) or 1.0
    trace: Plot = {
        "type": "heatmap",
        "z": compact(value.tolist()),
        "customdata": _hovers(patching, effect, metric, rows),
        "hovertemplate": "%{customdata}<extra></extra>",
        "coloraxis": "coloraxis",
        "hoverongaps": False,
        "xgap": 1 if value.shape[1] <= _TICKS else 0,
        "ygap": 1 if len(rows) <= _TICKS else 0,
    }
    if value.shape[1] <= _NUMBERED and len(rows) <= _NUMBERED:
        trace |= {
            "text": [[signed(cell, 2) for cell in row] for row in value.tolist()],
            "texttemplate": "%{text}",
            "textfont": {"size": 10},
        }
    return {
        "data": [trace],
        "layout": {
            "margin": {"t": 34},
            "coloraxis": {
                "colorscale": "$balance",
                "cmin": -largest,
                "cmax": largest,
                "colorbar": {"x": 1.01, "len": 1, "nticks": 7, "title": {"text": effect.words}},
            },
            "xaxis": {
                **_ticks([_short(name) for name in across.labels]),
                "title": {"text": _title(across), "standoff": 14},
                "tickangle": 0 if across.name != "position" or len(across.values) <= 8 else -60,
            },
            "yaxis": {**_ticks(rows), "title": {"text": ""}},
        },
    }


def _rows(axes: tuple[Axis, ...]) -> list[str]:
    """The labels of all axes but the last, side by side."""
    names = [""]
    for axis in axes:
        names = [f"{name} {axis_label}".strip() for name in names for axis_label in axis.labels]
    return names


def _size(axes: tuple[Axis, ...]) -> int:
    return len(_rows(axes))


def _title(axis: Axis) -> str:
    if axis.name != "position":
        return axis.name
    return "token (clean/corrupted where they differ; … where it varies between prompts)"


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _ticks(names: list[str]) -> Plot:
    step = -(-len(names) // _TICKS)
    ticks = list(range(0, len(names), step))
    return {
        "tickvals": ticks,
        "ticktext": [label(names[tick]) for tick in ticks],
        "range": [-0.5, len(names) - 0.5],
        "showgrid": False,
        "ticks": "",
    }


def _hovers(patching: Patching, effect: Effect, metric: str, rows: list[str]) -> list[list[str]]:
    """Site, effect with its interval, and the metric itself."""
    across = patching.axes[-1]
    shape = (len(rows), len(across.values))
    means = patching.mean(metric).reshape(shape).tolist()
    examples = (~patching.values[metric].isnan()).sum(dim=0).reshape(shape).tolist()
    estimates = effect.estimates
    value, low, high = (
        part.reshape(shape) for part in (estimates.value, estimates.low, estimates.high)
    )
    cells = Estimates(value, low, high, estimates.n)
    texts = []
    for row, name in enumerate(rows):
        line = []
        for column, column_label in enumerate(across.labels):
            position = f"{across.values[column]} " if across.name == "position" else ""
            cell = cells[row, column]
            text = f"<b>{label(f'{name}, {position}{column_label}')}</b><br>{effect.words} "
            text += signed(cell.value)
            if effect.of_gap and examples[row][column] > 1:
                text += f" {interval(cell)}"
            text += f"<br>{label(metric)} {general(means[row][column])}"
            line.append(f"{text}<br>n = {examples[row][column]}")
        texts.append(line)
    return texts


def _end(end: float) -> float | None:
    """The end of an interval, where there is one."""
    return end if math.isfinite(end) else None


def _spread(run_values: Float[Tensor, " example"], patching: Patching) -> Tensor:
    return run_values.view(-1, *[1] * len(patching.axes))


__all__ = ["Effect", "patching_height", "patching_plot"]
