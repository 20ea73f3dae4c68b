"""How fine-tuning went: loss and accuracy by step, quality of the answers by checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from circuits.evaluation import Estimate, SummaryQuality
from circuits.format import compact, estimate
from circuits.plot.figures.panels import axes_of, label, panel_grid
from circuits.plot.plotly_figure import Plot
from circuits.tuning.training_log import TrainingLog, TrainingStep, ValidationStep

MEASURES = {
    "rougeL": ("ROUGE-L", "$positive", "circle"),
    "rouge2": ("ROUGE-2", "$green", "square"),
    "rouge1": ("ROUGE-1", "$purple", "diamond"),
    "token_accuracy": ("token accuracy", "$negative", "triangle-up"),
    "exact_match": ("exact match", "$markline", "x"),
}


def training_curves(log: TrainingLog, checkpoints: Sequence[int]) -> Plot:
    """Loss and token accuracy: every training batch, and validation. Dotted: checkpoints."""
    layout = panel_grid(
        ["Loss (nats a token)", "Token accuracy"],
        columns=2,
        height=230,
        xaxis={"title": {"text": "step"}, "rangemode": "tozero"},
        yaxis={"rangemode": "tozero"},
        share_y=False,
        gap=0.08,
    )
    data = []
    lines: tuple[tuple[Sequence[TrainingStep | ValidationStep], str, str, str, float], ...] = (
        (log.steps, "training batch", "$control", "lines", 1.2),
        (log.validation, "validation set", "$positive", "lines+markers", 2),
    )
    for entries, title, colour, mode, width in lines:
        columns = ([entry.loss for entry in entries], [entry.token_accuracy for entry in entries])
        for panel, values in enumerate(columns):
            data.append(
                {
                    "type": "scatter",
                    "mode": mode,
                    "name": title,
                    "legendgroup": title,
                    "showlegend": panel == 0 and bool(entries),
                    "x": [entry.step for entry in entries],
                    "y": compact(values),
                    "line": {"color": colour, "width": width},
                    "marker": {"color": colour, "size": 6},
                    "hovertemplate": f"step %{{x}}: %{{y:.3f}}<extra>{title}</extra>",
                    **axes_of(panel),
                }
            )
    layout["shapes"] = [
        {
            "type": "line",
            "x0": step,
            "x1": step,
            "y0": 0,
            "y1": 1,
            "xref": axes_of(subplot)["xaxis"],
            "yref": axes_of(subplot)["yaxis"] + " domain",
            "line": {"color": "$faint", "width": 1, "dash": "dot"},
            "layer": "below",
        }
        for subplot in range(2)
        for step in checkpoints
    ]
    layout["yaxis2"]["range"] = [0, 1.02]
    layout["legend"] = {"y": 1.13}
    layout["margin"] = {"t": 64}
    return {"data": data, "layout": layout}


def quality_curves(quality: Mapping[str, SummaryQuality]) -> Plot:
    """Each quality measure by checkpoint, with its interval.

    Args:
        quality: by checkpoint, first to last.

    Returns:
        The figure, for plotly.
    """
    names = list(quality)
    data = []
    for key, (title, colour, symbol) in MEASURES.items():
        estimates: list[Estimate] = [getattr(measures, key) for measures in quality.values()]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": title,
                "x": [label(name) for name in names],
                "y": compact([point.value for point in estimates]),
                "error_y": _bars(estimates, colour),
                "customdata": [estimate(point) for point in estimates],
                "line": {"color": colour, "width": 2},
                "marker": {"color": colour, "size": 8, "symbol": symbol},
                "hovertemplate": f"{title}, %{{x}}: %{{customdata}}<extra></extra>",
            }
        )
    return {
        "data": data,
        "layout": {
            "xaxis": {"type": "category", "showgrid": False},
            "yaxis": {"range": [-0.02, 1.03], "title": {"text": "score, 0 to 1"}},
        },
    }


def _bars(estimates: Sequence[Estimate], colour: str) -> Plot:
    def away(point: Estimate, end: float) -> float:
        return 0.0 if math.isnan(end) else abs(end - point.value)

    return {
        "type": "data",
        "symmetric": False,
        "array": compact([away(point, point.high) for point in estimates]),
        "arrayminus": compact([away(point, point.low) for point in estimates]),
        "color": colour,
        "thickness": 1.2,
        "width": 0,
    }
