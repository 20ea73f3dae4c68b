"""The Jaccard index of circuits, by the number of examples that they come from."""

from __future__ import annotations

from circuits.evaluation import Reliability
from circuits.format import compact
from circuits.plot.plotly_figure import Plot


def jaccard_by_examples(reliability: Reliability) -> Plot:
    """A line, with a marker and its interval at the examples that the scores come from."""
    numbers, values = zip(*reliability.curve, strict=True)
    likeness = reliability.likeness
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "extrapolated",
            "x": list(numbers),
            "y": compact(list(values)),
            "line": {"color": "$positive", "width": 2},
            "hovertemplate": "%{x} examples: %{y:.2f}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "measured",
            "x": [reliability.n],
            "y": compact([likeness.value]),
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": compact([likeness.high - likeness.value]),
                "arrayminus": compact([likeness.value - likeness.low]),
                "color": "$positive",
                "thickness": 1.4,
                "width": 4,
            },
            "marker": {"color": "$positive", "size": 8},
            "hovertemplate": "%{x} examples: %{y:.2f}<extra></extra>",
        },
    ]
    dashed = {
        "type": "line",
        "xref": "x domain",
        "x0": 0,
        "x1": 1,
        "y0": reliability.target,
        "y1": reliability.target,
        "line": {"color": "$muted", "width": 1, "dash": "dash"},  # a grid line may lie there
    }
    return {
        "data": data,
        "layout": {
            "shapes": [dashed],
            "xaxis": {"title": {"text": "examples"}, "type": "log"},
            "yaxis": {"title": {"text": "Jaccard index"}, "range": [0, 1.04]},
            "margin": {"t": 46},
        },
    }
