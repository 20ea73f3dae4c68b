"""One self-contained page of sections: opens offline, loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from circuits.plot.palette import DARK, LIGHT, TEMPLATE, css_variables
from circuits.report.blocks import Article, Block, Figure, Section, Table
from circuits.runtime.inline_json import inline_json


@dataclass(frozen=True)
class NumberedBlock:
    """A block with its number among the figures or the tables; None for other blocks."""

    block: Block
    number: int | None


def document(title: str, subtitle: str, chapters: Iterable[tuple[Section, Sequence[Block]]]) -> str:
    """The page as HTML. The same blocks give the same text."""
    environment = Environment(
        autoescape=True,
        loader=DictLoader({"page": _asset("page.html.j2")}),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbered = list(_numbered(chapters))
    views = {
        f"figure-{numbered_block.number}": dict(numbered_block.block.views)
        for _, blocks in numbered
        for numbered_block in blocks
        if isinstance(numbered_block.block, Figure)
    }
    return environment.get_template("page").render(
        title=title,
        subtitle=subtitle,
        chapters=numbered,
        style=Markup(css_variables(":root") + _asset("page.css")),
        plotly=Markup(get_plotlyjs()),
        script=Markup(_asset("page.js")),
        plots=Markup(inline_json(views)),
        theme=Markup(inline_json({"light": LIGHT, "dark": DARK, "template": TEMPLATE})),
    )


def _numbered(
    chapters: Iterable[tuple[Section, Sequence[Block]]],
) -> Iterator[tuple[Section, list[NumberedBlock]]]:
    figures = tables = 0
    for section, blocks in chapters:
        numbered = []
        for block in blocks:
            number = None
            if isinstance(block, Figure | Article):
                number = figures = figures + 1
            elif isinstance(block, Table):
                number = tables = tables + 1
            numbered.append(NumberedBlock(block, number))
        yield section, numbered


def _asset(name: str) -> str:
    return resources.files("circuits.report").joinpath("assets", name).read_text(encoding="utf-8")
