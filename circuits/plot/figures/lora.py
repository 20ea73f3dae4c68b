"""The LoRA comparison: scores by condition with every seed shown, and the layers of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from circuits.format import compact, count
from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels
from circuits.plot.figures.panels import label, panel_grid
from circuits.plot.plotly_figure import Plot
from circuits.tuning.lora_result import LoraComparison
from circuits.tuning.rouge import SummaryMeans


@dataclass(frozen=True)
class Score:
    """A score that is shown. direction: which values are better."""

    name: str
    direction: str
    of: Callable[[SummaryMeans], float]


SCORES = (
    Score("ROUGE-L", "higher is better", lambda means: means.rougeL),
    Score("token accuracy", "higher is better", lambda means: means.token_accuracy),
    Score("held-out loss, nats", "lower is better", lambda means: means.loss),
)


def lora_dots(comparison: LoraComparison) -> Plot:
    """Every seed's score as a small dot, the mean of a condition as a bar."""
    names = [target.name for target in comparison.targets]
    runs, means = [], []
    for panel, score in enumerate(SCORES):
        for row, name in enumerate(names):
            means.append(Dot(panel, row, comparison.spread(name, score.of).mean))
        for run in comparison.runs:
            value = score.of(run.scores)
            runs.append(
                Dot(
                    panel,
                    names.index(run.condition),
                    value,
                    text=f"<b>{label(run.condition)}</b>, seed {run.seed}<br>"
                    f"layers {', '.join(map(str, run.layers))}, "
                    f"{count(run.parameters)} parameters<br>"
                    f"{value:.4f}",
                )
            )
    return dot_panels(
        [f"{score.name} ({score.direction})" for score in SCORES],
        names,
        [
            Series("mean of the seeds", "$ink", means, symbol="line-ns-open", size=18),
            Series("one seed", "$positive", runs, size=9),
        ],
        ValueAxis(),
        columns=3,
        pixels=36,
    )


def layer_choice(comparison: LoraComparison) -> Plot:
    """Which layers each condition adapted, and each criterion's importance of every layer."""
    adapted = max(layer for run in comparison.runs for layer in run.layers) + 1
    n_layers = max([adapted, *(len(importance.values) for importance in comparison.importance)])
    layout = panel_grid(
        ["Share of seeds in which a condition adapts a layer", "Importance, share of its sum"],
        columns=2,
        height=layers_height(comparison) - 100,
        gap=0.22,
        share_y=False,
        xaxis={
            "title": {"text": "layer"},
            "showgrid": False,
            "ticks": "",
            "tickvals": list(range(0, n_layers, max(1, n_layers // 10))),
            "range": [-0.5, n_layers - 0.5],
        },
        yaxis={"showgrid": False, "ticks": "", "autorange": "reversed", "type": "category"},
    )
    touched = []
    for target in comparison.targets:
        runs = comparison.of(target.name)
        touched.append(
            [sum(layer in run.layers for run in runs) / len(runs) for layer in range(n_layers)]
        )
    shares = [
        [value / (sum(importance.values) or 1.0) for value in importance.values]
        for importance in comparison.importance
    ]
    data = []
    for number, rows, cells in (
        ("", [label(target.name) for target in comparison.targets], touched),
        ("2", [label(importance.criterion) for importance in comparison.importance], shares),
    ):
        data.append(
            {
                "type": "heatmap",
                "z": compact(cells),
                "y": rows,
                "zmin": 0,
                "zmax": 1 if not number else None,
                "showscale": False,
                "xgap": 3,
                "ygap": 3,
                "text": [[f"{cell:.2f}" if cell else "" for cell in row] for row in cells],
                "texttemplate": "%{text}" if n_layers <= 16 else None,
                "textfont": {"size": 10},
                "hovertemplate": "%{y}, layer %{x}: %{z:.3f}<extra></extra>",
                "xaxis": f"x{number}",
                "yaxis": f"y{number}",
            }
        )
    layout["margin"] = {"t": 34}
    return {"data": data, "layout": layout}


def layers_height(comparison: LoraComparison) -> int:
    """Pixels that `layer_choice` needs."""
    return 100 + 34 * max(len(comparison.targets), len(comparison.importance), 3)
