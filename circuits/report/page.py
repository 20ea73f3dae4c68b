"""One self-contained page from a run folder: opens offline, loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from circuits.files import write_text
from circuits.report.blocks import Article, Block, Figure, Note, Section, Table
from circuits.report.numbers import count
from circuits.report.palette import COLOURS, DARK, LIGHT, TEMPLATE
from circuits.report.run import UNSHOWABLE, Run, reason
from circuits.report.sections import (
    circuit,
    evolution,
    faithfulness,
    finetuning,
    internals,
    key_figures,
    lora,
    minimality,
    reproducibility,
    robustness,
    summary,
    task,
)

SECTIONS = (
    Section("summary", "Summary", (key_figures.tiles, summary.findings)),
    Section("task", "The task", (task.article, task.sizes)),
    Section("fine-tuning", "Fine-tuning", (finetuning.curves, finetuning.quality)),
    Section("circuits", "Circuits", (circuit.graphs, circuit.heatmaps, circuit.top_edges)),
    Section(
        "faithfulness",
        "How far the claim holds",
        (
            faithfulness.curves,
            faithfulness.areas,
            minimality.falls,
            robustness.conditions,
        ),
    ),
    Section(
        "evolution",
        "What fine-tuning changed",
        (evolution.likeness, evolution.turnover, evolution.edges, internals.inside),
    ),
    Section("lora", "Where a LoRA should go", (lora.race, lora.layers)),
    Section(
        "reproducibility",
        "Reproducibility",
        (reproducibility.recipe, reproducibility.environment, reproducibility.fingerprints),
    ),
)


@dataclass(frozen=True)
class Numbered:
    """A block with its number among the figures or the tables; None for other blocks."""

    block: Block
    number: int | None


def write_report(run_folder: str | Path) -> Path:
    """Write `report.html` into a run folder, from the folder's files only; returns its path.

    A file that is missing or unreadable costs its part of the page, which says so in a line.
    """
    run = Run(run_folder)
    path = run.folder / "report.html"
    write_text(path, render(run))
    return path


def render(run: Run) -> str:
    """The page as HTML. The same files give the same text."""
    environment = Environment(
        autoescape=True,
        loader=DictLoader({"page": _asset("page.html.j2")}),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    chapters = list(_numbered((section, list(_blocks(section, run))) for section in SECTIONS))
    views = {
        f"figure-{one.number}": dict(one.block.views)
        for _, blocks in chapters
        for one in blocks
        if isinstance(one.block, Figure)
    }
    return environment.get_template("page").render(
        **_heading(run),
        chapters=chapters,
        style=Markup(_colours() + _asset("page.css")),
        plotly=Markup(get_plotlyjs()),
        script=Markup(_asset("page.js")),
        plots=_embedded(views),
        theme=_embedded({"light": LIGHT, "dark": DARK, "template": TEMPLATE}),
    )


def _blocks(section: Section, run: Run) -> Iterator[Block]:
    """All blocks of a section; a part that cannot be made becomes a line that says why."""
    said = set()
    for part in section.parts:
        try:
            yield from list(part(run))
        except UNSHOWABLE as error:
            why = reason(error)
            if why not in said:
                said.add(why)
                yield Note(why)


def _numbered(
    chapters: Iterable[tuple[Section, list[Block]]],
) -> Iterator[tuple[Section, list[Numbered]]]:
    figures = tables = 0
    for section, blocks in chapters:
        numbered = []
        for block in blocks:
            number = None
            if isinstance(block, Figure | Article):
                number = figures = figures + 1
            elif isinstance(block, Table):
                number = tables = tables + 1
            numbered.append(Numbered(block, number))
        yield section, numbered


def _heading(run: Run) -> dict[str, str]:
    """Title and subtitle, from the recipe where there is one."""
    try:
        recipe = yaml.safe_load(run.recipe)
        model, name = str(recipe["model"]), str(recipe["task"]["name"])
        title = f"The circuits behind {name} in {Path(model).name}"
    except (*UNSHOWABLE, yaml.YAMLError):
        title = f"Circuits of {run.name}"
    facts = [f"run {run.name}"]
    if run.order:
        facts.append(f"{len(run.order)} checkpoints: {', '.join(run.order)}")
    try:
        layout = next(iter(run.scores.values())).layout
        facts.append(f"{layout.summary}, {count(layout.n_edges)} edges")
    except UNSHOWABLE:
        pass
    return {"title": title, "subtitle": " · ".join(facts)}


def _colours() -> str:
    """The palette as CSS variables, dark where the system asks for it."""

    def variables(palette: dict[str, Any]) -> str:
        return "".join(f"--{name}:{palette[name]};" for name in COLOURS)

    return (
        f":root{{color-scheme:light dark;{variables(LIGHT)}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}\n"
    )


def _embedded(value: Any) -> Markup:
    """JSON that can stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _asset(name: str) -> str:
    return resources.files("circuits.report").joinpath("assets", name).read_text(encoding="utf-8")
