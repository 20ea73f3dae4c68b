"""The neurons that changed most, one a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from circuits.format import signed
from circuits.report.blocks import Plot
from circuits.report.figures.dots import Dot, Series, dot_panels, dots_height

_PIXELS = 15
_DISCOVERY = 0.05


def neurons_height(rows: int) -> int:
    """Pixels that the figure needs."""
    return dots_height(1, rows, 1, _PIXELS)


def neuron_dots(top: Sequence[Mapping[str, Any]]) -> Plot:
    """Change of mean activation with its interval; those that changed sign stand apart."""
    kinds: dict[str, list[Dot]] = {"flipped": [], "changed": [], "unsure": []}
    for row, one in enumerate(top):
        unsure = one["q"] is None or one["q"] > _DISCOVERY
        kind = "unsure" if unsure else "flipped" if one["flipped"] else "changed"
        text = (
            f"<b>{one['neuron']}</b><br>{signed(one['against'])} → {signed(one['model'])}, change "
            f"{signed(one['change'])} [{signed(one['low'])}, {signed(one['high'])}]<br>"
            f"{signed(one['effect'], 2)} of its spread over tokens"
        )
        kinds[kind].append(Dot(0, row, one["change"], one["low"], one["high"], text))
    series = [
        Series("changed", "$positive", kinds["changed"], size=8),
        Series("changed its sign", "$negative", kinds["flipped"], symbol="diamond", size=9),
        Series("no sure change", "$control", kinds["unsure"], symbol="circle-open", size=8),
    ]
    return dot_panels(
        [""],
        [one["neuron"] for one in top],
        [one for one in series if one.dots],
        columns=1,
        title="change of mean activation",
        pixels=_PIXELS,
        references=(0,),
    )
