"""The neurons that changed most, one a row."""

from __future__ import annotations

from collections.abc import Sequence

from circuits.format import estimate, signed
from circuits.model_diff.neurons import NeuronChange
from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels, dots_height
from circuits.plot.plotly_figure import Plot

_PIXELS = 15


def neurons_height(rows: int) -> int:
    """Pixels that the figure needs."""
    return dots_height(1, rows, 1, _PIXELS)


def neuron_dots(top: Sequence[NeuronChange]) -> Plot:
    """Change of mean activation with its interval; those that changed sign stand apart."""
    kinds: dict[str, list[Dot]] = {"flipped": [], "changed": [], "unsure": []}
    for row, neuron in enumerate(top):
        kind = "unsure" if not neuron.changed else "flipped" if neuron.flipped else "changed"
        change = neuron.change
        text = (
            f"<b>{neuron.neuron}</b><br>{signed(neuron.base)} → {signed(neuron.model)}, change "
            f"{estimate(change)}<br>{signed(neuron.effect, 2)} of its spread over tokens"
        )
        kinds[kind].append(Dot(0, row, change.value, change.low, change.high, text))
    series = [
        Series("changed", "$positive", kinds["changed"], size=8),
        Series("changed its sign", "$negative", kinds["flipped"], symbol="diamond", size=9),
        Series("no significant change", "$control", kinds["unsure"], symbol="circle-open", size=8),
    ]
    return dot_panels(
        [""],
        [neuron.neuron for neuron in top],
        [dot_series for dot_series in series if dot_series.dots],
        ValueAxis("change of mean activation", references=(0,)),
        columns=1,
        pixels=_PIXELS,
    )
