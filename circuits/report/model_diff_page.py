"""The page that `circuits diff` writes: how two or more models differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from circuits.format import count
from circuits.model_diff import ModelDiff, ModelDiffs
from circuits.plot.figures.layer_lines import layer_lines
from circuits.report.blocks import Block, Figure, Method, Section
from circuits.report.document import document
from circuits.report.sections.hidden import LINES_HEIGHT, magnitudes, trajectory
from circuits.report.sections.model_diff import comparison
from circuits.runtime.files import write_text


def write_model_diff_page(diffs: ModelDiffs, to: str | Path) -> Path:
    """Write one self-contained page.

    Args:
        diffs: what `circuits diff` found, as `ModelDiffs.load` reads it.
        to: the page's path.

    Returns:
        The path.
    """
    to = Path(to)
    comparisons = diffs.comparisons
    chapters: list[tuple[Section, Sequence[Block]]] = [
        (_section("layers", "Layer by layer"), [_divergence(comparisons), magnitudes(comparisons)])
    ]
    for number, diff in enumerate(comparisons):
        chapters.append((_section(f"pair-{number}", _title(diff)), list(comparison(diff))))
    if diffs.trajectory is not None:
        blocks = list(trajectory(diffs.trajectory))
        chapters.append((_section("trajectory", "Where hidden states go"), blocks))
    n = count(comparisons[0].n_documents)
    subtitle = f"{diffs.task} ({diffs.split}), {n} documents, the same for every model"
    write_text(to, document(f"Model diff: {_title(comparisons[0])}", subtitle, chapters))
    return to


def _section(anchor: str, title: str) -> Section:
    return Section(anchor, title, ())


def _title(diff: ModelDiff) -> str:
    return f"{diff.model} against {diff.base}"


def _divergence(comparisons: Sequence[ModelDiff]) -> Figure:
    """KL of attention by layer, a line for each pair of models."""
    return Figure(
        caption="The divergence of attention by layer for each pair of models: the mean over a "
        f"layer's heads, with 95 % intervals over {count(comparisons[0].n_documents)} "
        "documents.",
        views={
            "": layer_lines(
                {_title(diff): diff.kl_by_layer for diff in comparisons}, "KL of attention (nats)"
            )
        },
        height=LINES_HEIGHT,
        method=Method(
            steps=("The figure is KL(first || second), as a mean over positions and heads.",)
        ),
    )
