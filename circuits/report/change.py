"""The page that `circuits compare` writes: what changed between checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from circuits.format import count, listed, typeset
from circuits.report.blocks import Block, Details, Section, Text
from circuits.report.document import document
from circuits.report.run import Run
from circuits.report.sections import comparison, trajectory
from circuits.runtime.files import write_text


def write_change_page(folder: str | Path) -> Path:
    """Write `comparison.html` beside `comparison.json`, and `cross_evaluation.json` if it is there.

    Returns its path.
    """
    run = Run(folder)
    found = run.json("comparison.json")
    names = found["names"]
    crossed = (run.folder / "cross_evaluation.json").is_file()
    paragraphs = [found["paragraph"]]
    if crossed:
        paragraphs.append(run.part("cross_evaluation.json", "paragraph"))
    chapters = [
        _chapter("words", "In words", [Text(typeset(text)) for text in paragraphs]),
        _chapter(
            "comparison",
            "Between checkpoints",
            [*comparison.likeness(run), *comparison.turnover(run), *comparison.edges(run)],
        ),
        _chapter(
            "trajectory",
            "By training step",
            [
                *trajectory.strengths(run),
                *trajectory.entries(run),
                *(trajectory.cross_evaluation(run) if crossed else ()),
            ],
        ),
    ]
    path = run.folder / "comparison.html"
    title = f"What changed from {names[0]} to {names[-1]}"
    write_text(path, document(title, _subtitle(found), chapters))
    return path


def _chapter(anchor: str, title: str, blocks: Iterable[Block]) -> tuple[Section, list[Block]]:
    """A section; the paragraphs, which stand in the first, are not folded in again."""
    return Section(anchor, title, ()), [one for one in blocks if not isinstance(one, Details)]


def _subtitle(found: dict[str, Any]) -> str:
    return (
        f"{listed(found['names'])} · {count(found['examples'])} examples, the same for every "
        f"checkpoint · {found['method']}"
    )
