"""Which layers a LoRA should touch, and how that LoRA did against the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from circuits.format import count, listed, percent, signed
from circuits.report.blocks import Block, Figure, Method, Table, Text
from circuits.report.figures.dots import dots_height
from circuits.report.figures.lora import SCORES, arm_dots, layer_choice, layers_height
from circuits.report.run import Run


def race(run: Run) -> Iterator[Block]:
    """Scores of every arm."""
    found = run.part("lora.json", "bakeoff")
    lora_targets = found["arms"]
    seeds = len(lora_targets[0]["seeds"])
    examples = f"{run.words.example}s"
    yield Text(
        "Every arm starts from the base model and takes the same steps on the same batches; its "
        "rank is set so that it trains about as many parameters as a LoRA on all layers. The arms "
        "differ in the layers they touch."
    )
    yield Figure(
        caption=f"LoRA arms after {count(found['steps'])} steps, on {count(found['held_out'])} "
        f"held-out {examples}. Dots: one seed each ({seeds} an arm); bar: their mean. The axes do "
        "not begin at 0. Base model: "
        + ", ".join(
            f"{title.partition(' (')[0]} {signed(found['base'].get(key))}"
            for key, title in SCORES.items()
        )
        + ".",
        views={"": arm_dots(found)},
        height=dots_height(1, len(lora_targets), 1, 36),
        method=Method(
            steps=(
                "Seeds set the order of the data, the first weights of the adapter, and the layers "
                "of a random arm. Steps are few, far from convergence: the race says which layers "
                "learn fastest, not which end best.",
            ),
            settings={
                "steps": found["steps"],
                f"held-out {examples}": found["held_out"],
                "parameters aimed at": found["budget"],
                "seeds": listed([str(seed) for seed in lora_targets[0]["seeds"]]),
            },
        ),
    )
    yield Table(
        caption=f"The same in numbers: mean ± standard deviation over {seeds} seeds (a spread over "
        f"seeds, not an interval over {examples}).",
        head=[
            "arm",
            "layers chosen by",
            "layers",
            "rank",
            "parameters (of the aim)",
            *(title.partition(" (")[0] for title in SCORES.values()),
        ],
        views={"": [_row(found, arm) for arm in lora_targets]},
    )


def layers(run: Run) -> Iterator[Block]:
    """Where each arm sits and what made it sit there."""
    found = run.part("lora.json", "bakeoff")
    importance = run.part("lora.json", "importance")
    n_layers = max(len(values) for values in importance.values())
    yield Figure(
        caption="Left: the layers that each arm touched (share of its seeds; a random arm draws "
        "anew for each). Right: the importance of each layer by every criterion that was computed, "
        "as a share of its sum over layers.",
        views={"": layer_choice(found, importance, n_layers)},
        height=layers_height(found, importance),
        method=Method(
            steps=(
                "edges: |score| of the last checkpoint's circuit, half of each edge to the layer "
                "of its source and half to that of its reader. attention-kl, entropy and "
                "hidden-state: change of attention, of its entropy, and of each block's own update "
                "between the base and the last checkpoint.",
            ),
        ),
    )


def _row(found: Mapping[str, Any], arm: Mapping[str, Any]) -> list[str]:
    runs = [run for run in found["runs"] if run["arm"] == arm["name"]]
    chosen = list(dict.fromkeys(", ".join(map(str, run["layers"])) for run in runs))
    row = [
        arm["name"],
        arm["criterion"],
        " / ".join(chosen),
        ", ".join(map(str, arm["rank"])),
        f"{count(arm['parameters'])} ({percent(arm['parameters_to_budget'], 0)})",
    ]
    for score in SCORES:
        spread = arm["scores"][score]
        deviation = "" if spread["sd"] is None else f" ± {signed(spread['sd'])}"
        row.append(signed(spread["mean"]) + deviation)
    return row
