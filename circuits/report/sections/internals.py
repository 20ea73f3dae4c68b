"""How attention and hidden states moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from circuits.report.blocks import Block, Figure, Heading, Method, Text
from circuits.report.figures.dots import dots_height
from circuits.report.figures.internals import head_heatmaps, heads_height, layer_dots
from circuits.report.numbers import count, typeset
from circuits.report.run import Run

_BY_LAYER = {
    "Cosine of hidden states": "cosine",
    "Change of the block's update": "update_change",
}
_SETTINGS = ("documents", "resamples", "seed")


def inside(run: Run) -> Iterator[Block]:
    """Attention and hidden states."""
    yield Heading("Inside: attention and hidden states")
    found = run.json("internals.json")
    if found.get("paragraph"):
        yield Text(in_short(found))
    n = count(found["documents"])
    layers = len(found["kl"]["value"])
    model, against = (Path(str(found[name])).name for name in ("model", "against"))
    settings = {name: found[name] for name in _SETTINGS if name in found}
    pair = f"{model} against {against}"
    yield Figure(
        caption=f"Heads of {pair} on the same {n} documents. Left: how far the attention patterns "
        "are apart. Right: change of their entropy; orange grew sharper, blue more diffuse. Hover "
        "for 95 % intervals.",
        views={"": head_heatmaps(found["kl"], found["entropy_change"])},
        height=heads_height(layers),
        method=Method(
            steps=(
                "Both models read the same clean prompts. Each figure is a mean over the positions "
                "of a document, then over documents.",
            ),
            formula="KL = Σ p log(p / q),  entropy = - Σ p log p,  p and q the attention of "
            f"{model} and {against}",
            settings=settings,
        ),
    )
    shown = {title: found[key] for title, key in _BY_LAYER.items() if key in found}
    if shown:
        yield Figure(
            caption=f"Layer by layer, {pair}, means over {n} documents with 95 % intervals. Left: "
            "cosine of the two hidden states after each block (1: the same direction). Right: "
            "how much the block's own update changed, relative to its size.",
            views={"": layer_dots(shown, ["cosine", "‖change‖ / ‖before‖"][: len(shown)])},
            height=dots_height(1, layers, 2, 26),
            method=Method(
                steps=(
                    "The hidden state after a block carries every earlier change along and only "
                    "moves apart with depth; the block's own update says where the change is made.",
                ),
                settings=settings,
            ),
        )


def in_short(found: Mapping[str, Any]) -> str:
    """The paragraph of internals, with folders shortened to their names."""
    text = str(found["paragraph"])
    for name in (str(found["model"]), str(found["against"])):
        text = text.replace(name, Path(name).name)
    return typeset(text)
