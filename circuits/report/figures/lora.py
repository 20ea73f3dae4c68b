"""The LoRA comparison: scores by arm with every seed shown, and the layers each arm touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from circuits.format import compact
from circuits.report.blocks import Plot
from circuits.report.figures.dots import Dot, Series, dot_panels
from circuits.report.figures.panels import label, panel_grid

SCORES = {
    "rougeL": "ROUGE-L (higher is better)",
    "token_accuracy": "token accuracy (higher is better)",
    "loss": "held-out loss, nats (lower is better)",
}


def arm_dots(race: Mapping[str, Any]) -> Plot:
    """Every seed's score as a small dot, the mean of an arm as a bar."""
    lora_targets = [arm["name"] for arm in race["arms"]]
    runs, means = [], []
    for panel, score in enumerate(SCORES):
        for row, arm in enumerate(race["arms"]):
            means.append(Dot(panel, row, arm["scores"][score]["mean"]))
        for run in race["runs"]:
            value = run["scores"][score]
            runs.append(
                Dot(
                    panel,
                    lora_targets.index(run["arm"]),
                    value,
                    text=f"<b>{label(run['arm'])}</b>, seed {run['seed']}<br>"
                    f"layers {', '.join(map(str, run['layers']))}, rank {run['rank']}<br>"
                    f"{value:.4f}",
                )
            )
    return dot_panels(
        list(SCORES.values()),
        lora_targets,
        [
            Series("mean of the seeds", "$ink", means, symbol="line-ns-open", size=18),
            Series("one seed", "$positive", runs, size=9),
        ],
        columns=3,
        title="",
        pixels=36,
    )


def layer_choice(
    race: Mapping[str, Any], importance: Mapping[str, Sequence[float]], n_layers: int
) -> Plot:
    """Which layers each arm touched, and each criterion's importance of every layer."""
    names = list(importance)
    layout = panel_grid(
        ["Share of seeds in which an arm touches a layer", "Importance, share of its sum"],
        columns=2,
        height=layers_height(race, importance) - 100,
        gap=0.22,
        share_y=False,
        xaxis={
            "title": {"text": "layer"},
            "showgrid": False,
            "ticks": "",
            "tickvals": list(range(0, n_layers, max(1, n_layers // 16))),
            "range": [-0.5, n_layers - 0.5],
        },
        yaxis={"showgrid": False, "ticks": "", "autorange": "reversed", "type": "category"},
    )
    touched = [
        [
            sum(layer in run["layers"] for run in _of(race, arm["name"]))
            / max(1, len(_of(race, arm["name"])))
            for layer in range(n_layers)
        ]
        for arm in race["arms"]
    ]
    shares = [
        [value / (sum(importance[name]) or 1.0) for value in importance[name]] for name in names
    ]
    data = []
    for number, rows, cells in (
        ("", [label(arm["name"]) for arm in race["arms"]], touched),
        ("2", [label(name) for name in names], shares),
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


def layers_height(race: Mapping[str, Any], importance: Mapping[str, Any]) -> int:
    """Pixels that `layer_choice` needs."""
    return 100 + 34 * max(len(race["arms"]), len(importance), 3)


def _of(race: Mapping[str, Any], arm: str) -> list[Mapping[str, Any]]:
    return [run for run in race["runs"] if run["arm"] == arm]
