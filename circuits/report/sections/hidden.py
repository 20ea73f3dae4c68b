"""Hidden states layer by layer, and where they go from checkpoint to checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from circuits.format import count
from circuits.model_diff import ModelDiff
from circuits.model_diff.hidden import RepresentationTrajectory
from circuits.plot.figures.layer_lines import layer_lines
from circuits.plot.figures.path import HEIGHT, path_views
from circuits.report.blocks import Block, Figure, Method
from circuits.statistics.estimate import Estimates

LINES_HEIGHT = 340


def magnitudes(comparisons: Sequence[ModelDiff]) -> Figure:
    """Mean |activation| by layer, a line for each model."""
    lines: dict[str, Estimates] = {}
    for diff in comparisons:
        lines[diff.base] = diff.activation_base
        lines[diff.model] = diff.activation
    return Figure(
        caption="Activation magnitude by layer: mean |hidden state| after each block, with 95 % "
        f"intervals over {count(comparisons[0].n_documents)} documents.",
        views={"": layer_lines(lines, "mean |activation|")},
        height=LINES_HEIGHT,
        method=Method(
            steps=(
                "Each value is a mean over the width of the residual stream and over positions.",
            )
        ),
    )


def trajectory(states: RepresentationTrajectory) -> Iterator[Block]:
    """The path over checkpoints, and how far each layer moved."""
    n = count(states.n_documents)
    views = path_views(states)
    order = "the order given" if states.steps is None else "training step"
    yield Figure(
        caption=f"The mean hidden state from checkpoint to checkpoint on {n} documents, coloured "
        f"by {order}. Large points are means over documents. Small points are groups of "
        "documents, without what a group has in common at all checkpoints.",
        views=views,
        height=HEIGHT,
        method=Method(
            steps=(
                "States are means over a document's positions, then over groups of documents. "
                "The axes are the first three principal components of the groups' states, with "
                "their share of the variance; UMAP keeps near points near; its large distances "
                "have no meaning.",
            ),
        ),
        chosen=next(iter(views)),
    )
    first, *later = states.checkpoints
    moved = {name: states.moved.row(row) for row, name in enumerate(later, start=1)}
    yield Figure(
        caption=f"How far the mean hidden state of each layer has moved from {first}'s, "
        f"relative to its length, with 95 % jackknife intervals over {n} documents.",
        views={"": layer_lines(moved, "‖change‖ / ‖first‖")},
        height=LINES_HEIGHT,
        method=Method(steps=("The jackknife leaves out one group of documents at a time.",)),
    )
