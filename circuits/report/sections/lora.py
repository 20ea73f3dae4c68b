"""Which layers a LoRA should touch, and how that LoRA did against the others."""

from __future__ import annotations

import math
from collections.abc import Iterator

from circuits.format import count, listed, percent, signed
from circuits.plot.figures.dots import dots_height
from circuits.plot.figures.lora import SCORES, layer_choice, layers_height, lora_dots
from circuits.report.blocks import Block, Figure, Method, Table, Text
from circuits.report.run import Run
from circuits.tuning.lora_result import LoraComparison
from circuits.tuning.lora_targets import LoraTarget


def scores(run: Run) -> Iterator[Block]:
    """Scores of every condition."""
    found = run.lora
    seeds = len(found.seeds)
    examples = f"{run.nouns.example}s"
    yield Text(
        "Every condition starts from the base model and takes the same steps on the same batches; "
        "its rank is set so that it trains about as many parameters as a LoRA on all layers. The "
        "conditions differ in the layers they adapt."
    )
    yield Figure(
        caption=f"LoRAs after {count(found.steps)} steps, on {count(found.held_out)} held-out "
        f"{examples}. Each dot is one seed ({seeds} for each condition); the bar is their mean. "
        "The axes do not start at 0. Base model: "
        + ", ".join(f"{score.name} {signed(score.of(found.base))}" for score in SCORES)
        + ".",
        views={"": lora_dots(found)},
        height=dots_height(1, len(found.targets), 1, 36),
        method=Method(
            steps=(
                "A seed sets the order of the data, the initial weights of the adapter, and the "
                "layers of a random condition. The steps are few and far from convergence: the "
                "comparison shows which layers learn fastest, not which are best in the end.",
            ),
            settings={
                "steps": found.steps,
                f"held-out {examples}": found.held_out,
                "parameter budget": found.budget,
                "seeds": listed([str(seed) for seed in found.seeds]),
            },
        ),
    )
    yield Table(
        caption=f"The same in numbers: mean ± standard deviation over {seeds} seeds. This is a "
        f"spread over seeds, not an interval over {examples}.",
        head=[
            "condition",
            "layers chosen by",
            "layers",
            "rank",
            "parameters (budget)",
            *(score.name for score in SCORES),
        ],
        views={"": [_row(found, target) for target in found.targets]},
    )


def layers(run: Run) -> Iterator[Block]:
    """Where each condition has its adapters, and by what they were put there."""
    found = run.lora
    yield Figure(
        caption="Left: the layers that each condition adapted, as a share of its seeds (a "
        "random condition draws layers for each seed). Right: the importance of each layer "
        "by every criterion that "
        "was computed, as a share of its sum over layers.",
        views={"": layer_choice(found)},
        height=layers_height(found),
        method=Method(
            steps=(
                "edges is the |score| of the last checkpoint's circuit: half of each edge "
                "counts for the layer of its source and half for that of its reader. "
                "attention-kl, entropy and hidden-state are the changes of attention, of its "
                "entropy, and of each block's own update between the base and the last "
                "checkpoint.",
            ),
        ),
    )


def _row(found: LoraComparison, target: LoraTarget) -> list[str]:
    runs = found.of(target.name)
    chosen = dict.fromkeys(", ".join(map(str, run.layers)) for run in runs)
    parameters = found.parameters(target.name)
    row = [
        target.name,
        target.criterion,
        " / ".join(chosen),
        ", ".join(str(rank) for rank in sorted({run.rank for run in runs})),
        f"{count(parameters)} ({percent(parameters / found.budget, 0)})",
    ]
    for score in SCORES:
        spread = found.spread(target.name, score.of)
        deviation = "" if math.isnan(spread.sd) else f" ± {signed(spread.sd)}"
        row.append(signed(spread.mean) + deviation)
    return row
