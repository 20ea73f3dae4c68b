"""Figures of results, one result each, as plotly figures that stand alone.

`figures/` draw, as plain values that the report embeds, too; `draw` makes plotly figures of them.

figure = circuits.plot.faithfulness(curve)   # or curve.plot()
circuits.plot.save(figure, "faithfulness.svg")
"""

from circuits.plot.draw import (
    attention,
    circuit,
    cross_evaluation,
    draw,
    edge_effects,
    evaluation,
    faithfulness,
    inclusion,
    lora_circuits,
    loras,
    minimality,
    patching,
    reliability,
    representations,
    scores,
    similarity,
    stability,
    training,
    turnover,
    variance,
)
from circuits.plot.plotly_figure import save

__all__ = [
    "attention",
    "circuit",
    "cross_evaluation",
    "draw",
    "edge_effects",
    "evaluation",
    "faithfulness",
    "inclusion",
    "lora_circuits",
    "loras",
    "minimality",
    "patching",
    "reliability",
    "representations",
    "save",
    "scores",
    "similarity",
    "stability",
    "training",
    "turnover",
    "variance",
]
