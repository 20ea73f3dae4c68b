"""The page that `circuits compare` writes: what changed between checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from circuits.files import write_text
from circuits.report.blocks import Block, Fold, Section, Text
from circuits.report.document import document
from circuits.report.numbers import count, listed, typeset
from circuits.report.run import Run
from circuits.report.sections import evolution, trajectory


def write_change_page(folder: str | Path) -> Path:
    """Write `evolution.html` beside `evolution.json`, and `crossing.json` if it is there.

    Returns its path.
    """
    run = Run(folder)
    found = run.json("evolution.json")
    names = found["names"]
    crossed = (run.folder / "crossing.json").is_file()
    paragraphs = [found["paragraph"]]
    if crossed:
        paragraphs.append(run.part("crossing.json", "paragraph"))
    chapters = [
        _chapter("words", "In words", [Text(typeset(text)) for text in paragraphs]),
        _chapter(
            "evolution",
            "Between checkpoints",
            [*evolution.likeness(run), *evolution.turnover(run), *evolution.edges(run)],
        ),
        _chapter(
            "trajectory",
            "By training step",
            [
                *trajectory.strengths(run),
                *trajectory.entries(run),
                *(trajectory.crossing(run) if crossed else ()),
            ],
        ),
    ]
    path = run.folder / "evolution.html"
    title = f"What changed from {names[0]} to {names[-1]}"
    write_text(path, document(title, _subtitle(found), chapters))
    return path


def _chapter(anchor: str, title: str, blocks: Iterable[Block]) -> tuple[Section, list[Block]]:
    """A section; the paragraphs, which stand in the first, are not folded in again."""
    return Section(anchor, title, ()), [one for one in blocks if not isinstance(one, Fold)]


def _subtitle(found: dict[str, Any]) -> str:
    return (
        f"{listed(found['names'])} · {count(found['examples'])} examples, the same for every "
        f"checkpoint · {found['method']}"
    )
