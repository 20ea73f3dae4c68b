"""The page that `circuits compare` writes: what changed between checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from circuits.comparison import Evolution
from circuits.format import count, listed, typeset
from circuits.report import narrative
from circuits.report.blocks import Block, Details, Section, Text
from circuits.report.document import document
from circuits.report.run import Run
from circuits.report.sections import comparison, trajectory
from circuits.runtime.files import write_text


def write_comparison_page(folder: str | Path) -> Path:
    """Write `comparison.html` beside comparison.json, and cross_evaluation.json if it is there.

    Args:
        folder: holds the result files.

    Returns:
        Path of the page.

    Raises:
        MissingResultError: without comparison.json.
    """
    run = Run(folder)
    evolution = run.comparison
    matrix = run.cross_evaluation if (run.folder / "cross_evaluation.json").is_file() else None
    summaries = [narrative.evolution(evolution)]
    if matrix is not None:
        summaries.append(narrative.cross_evaluation(matrix))
    chapters = [
        _chapter("summary", "Summary", [Text(typeset(text)) for text in summaries]),
        _chapter(
            "comparison",
            "Between checkpoints",
            [*comparison.similarity(run), *comparison.turnover(run), *comparison.edges(run)],
        ),
        _chapter(
            "trajectory",
            "By training step",
            [
                *trajectory.strengths(run),
                *trajectory.inclusions(run),
                *(() if matrix is None else trajectory.cross_evaluation(run)),
            ],
        ),
    ]
    path = run.folder / "comparison.html"
    title = f"What changed from {evolution.names[0]} to {evolution.names[-1]}"
    write_text(path, document(title, _subtitle(evolution), chapters))
    return path


def _chapter(anchor: str, title: str, blocks: Iterable[Block]) -> tuple[Section, list[Block]]:
    """A section without its folded summaries: they are the first section."""
    return Section(anchor, title, ()), [block for block in blocks if not isinstance(block, Details)]


def _subtitle(evolution: Evolution) -> str:
    return (
        f"{listed(evolution.names)} · {count(evolution.n)} examples, the same for every checkpoint "
        f"· {evolution.method}"
    )
