"""The page that `circuits internals` writes: two or more models from the inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits.files import write_text
from circuits.report.blocks import Block, Figure, Method, Section
from circuits.report.document import document
from circuits.report.figures.layer_lines import layer_lines
from circuits.report.figures.path import HEIGHT, path_views
from circuits.report.numbers import count
from circuits.report.sections.internals import comparison

_HEIGHT = 340


def write_internals_page(record: Mapping[str, Any], path: str | Path) -> Path:
    """Write one self-contained page from the record of `circuits internals`; returns its path."""
    path = Path(path)
    chapters: list[tuple[Section, Sequence[Block]]] = []
    comparisons = record["comparisons"]
    chapters.append((_section("layers", "Layer by layer"), list(_layers(comparisons))))
    for place, one in enumerate(comparisons):
        chapters.append((_section(f"pair-{place}", _title(one)), list(comparison(one))))
    if record.get("path"):
        chapters.append((_section("path", "Where hidden states go"), list(_path(record["path"]))))
    n = count(comparisons[0]["documents"])
    subtitle = f"{record['task']} ({record['split']}), {n} documents, the same for every model"
    write_text(path, document(f"Inside {_title(comparisons[0])}", subtitle, chapters))
    return path


def _section(anchor: str, title: str) -> Section:
    return Section(anchor, title, ())


def _title(one: Mapping[str, Any]) -> str:
    return f"{_name(one['model'])} against {_name(one['against'])}"


def _name(model: str) -> str:
    return Path(str(model)).name


def _layers(comparisons: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    n = count(comparisons[0]["documents"])
    yield Figure(
        caption=f"Divergence of attention by layer for each pair of models: the mean over a "
        f"layer's heads, with 95 % intervals over {n} documents.",
        views={
            "": layer_lines(
                {_title(one): one["kl_by_layer"] for one in comparisons}, "KL of attention (nats)"
            )
        },
        height=_HEIGHT,
        method=Method(steps=("KL(first || second), a mean over positions and heads.",)),
    )
    magnitudes: dict[str, Any] = {}
    for one in comparisons:
        magnitudes[_name(one["against"])] = one["activation_against"]
        magnitudes[_name(one["model"])] = one["activation"]
    yield Figure(
        caption=f"Activation magnitude by layer: mean |hidden state| after each block, with 95 % "
        f"intervals over {n} documents.",
        views={"": layer_lines(magnitudes, "mean |activation|")},
        height=_HEIGHT,
        method=Method(steps=("A mean over the residual stream's width and over positions.",)),
    )


def _path(found: Mapping[str, Any]) -> Iterator[Block]:
    n = count(found["documents"])
    views = path_views(found)
    yield Figure(
        caption=f"The mean hidden state from checkpoint to checkpoint on {n} documents, coloured "
        "by training step. Large points: the mean over documents; small ones: groups of them, "
        "what a group's documents have in common at all checkpoints removed.",
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
    names = [_name(name) for name in found["checkpoints"]]
    moved = {
        name: {end: found["moved"][end][place] for end in ("value", "low", "high")}
        for place, name in enumerate(names)
        if place
    }
    yield Figure(
        caption=f"How far the mean hidden state of each layer has moved from {names[0]}'s, "
        f"relative to its length, with 95 % jackknife intervals over {n} documents.",
        views={"": layer_lines(moved, "‖change‖ / ‖first‖")},
        height=_HEIGHT,
        method=Method(steps=("The interval leaves out one group of documents at a time.",)),
    )
