"""Hidden states layer by layer, and where they go from checkpoint to checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from circuits.format import count
from circuits.report.blocks import Block, Figure, Method
from circuits.report.figures.layer_lines import layer_lines
from circuits.report.figures.path import HEIGHT, path_views

LINES_HEIGHT = 340


def magnitudes(comparisons: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean |activation| by layer, a line a model, from records of `Internals.to_dict`."""
    lines: dict[str, Any] = {}
    for one in comparisons:
        lines[one["against"]] = one["activation_base"]
        lines[one["model"]] = one["activation"]
    return Figure(
        caption="Activation magnitude by layer: mean |hidden state| after each block, with 95 % "
        f"intervals over {count(comparisons[0]['documents'])} documents.",
        views={"": layer_lines(lines, "mean |activation|")},
        height=LINES_HEIGHT,
        method=Method(steps=("A mean over the residual stream's width and over positions.",)),
    )


def path(found: Mapping[str, Any]) -> Iterator[Block]:
    """The path over checkpoints and how far each layer moved, from `HiddenPath.to_dict`."""
    n = count(found["documents"])
    views = path_views(found)
    yield Figure(
        caption=f"The mean hidden state from checkpoint to checkpoint on {n} documents, coloured "
        f"by {'training step' if found['steps'] else 'the order given'}. Large points: the mean "
        "over documents; small ones: groups of them, what a group's documents have in common at "
        "all checkpoints removed.",
        views=views,
        height=HEIGHT,
        method=Method(
            steps=(
                "States are means over a document's positions, then over groups of documents. "
                "The axes are the first three principal components of the groups' states, with "
                "their share of the variance; UMAP keeps near points near and means nothing by "
                "far distances.",
            ),
        ),
        chosen=next(iter(views)),
    )
    names = found["checkpoints"]
    moved = {
        name: {end: found["moved"][end][place] for end in ("value", "low", "high")}
        for place, name in enumerate(names)
        if place
    }
    yield Figure(
        caption=f"How far the mean hidden state of each layer has moved from {names[0]}'s, "
        f"relative to its length, with 95 % jackknife intervals over {n} documents.",
        views={"": layer_lines(moved, "‖change‖ / ‖first‖")},
        height=LINES_HEIGHT,
        method=Method(steps=("The interval leaves out one group of documents at a time.",)),
    )
