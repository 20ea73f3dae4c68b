"""The page that `circuits diff` writes: two or more models from the inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits.format import count
from circuits.report.blocks import Block, Figure, Method, Section
from circuits.report.document import document
from circuits.report.figures.layer_lines import layer_lines
from circuits.report.sections.hidden import LINES_HEIGHT, magnitudes, path
from circuits.report.sections.model_diff import comparison
from circuits.runtime.files import write_text


def write_diff_page(record: Mapping[str, Any], to: str | Path) -> Path:
    """Write one self-contained page from the record of `circuits diff`; returns its path."""
    to = Path(to)
    comparisons = record["comparisons"]
    chapters: list[tuple[Section, Sequence[Block]]] = [
        (_section("layers", "Layer by layer"), [_divergence(comparisons), magnitudes(comparisons)])
    ]
    for place, one in enumerate(comparisons):
        chapters.append((_section(f"pair-{place}", _title(one)), list(comparison(one))))
    if record.get("path"):
        chapters.append((_section("path", "Where hidden states go"), list(path(record["path"]))))
    n = count(comparisons[0]["documents"])
    subtitle = f"{record['task']} ({record['split']}), {n} documents, the same for every model"
    write_text(to, document(f"Inside {_title(comparisons[0])}", subtitle, chapters))
    return to


def _section(anchor: str, title: str) -> Section:
    return Section(anchor, title, ())


def _title(one: Mapping[str, Any]) -> str:
    return f"{one['model']} against {one['against']}"


def _divergence(comparisons: Sequence[Mapping[str, Any]]) -> Figure:
    """KL of attention by layer, a line a pair of models."""
    return Figure(
        caption="Divergence of attention by layer for each pair of models: the mean over a "
        f"layer's heads, with 95 % intervals over {count(comparisons[0]['documents'])} documents.",
        views={
            "": layer_lines(
                {_title(one): one["kl_by_layer"] for one in comparisons}, "KL of attention (nats)"
            )
        },
        height=LINES_HEIGHT,
        method=Method(steps=("KL(first || second), a mean over positions and heads.",)),
    )
