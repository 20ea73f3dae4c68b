"""What a section of the page is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from markupsafe import Markup

from circuits.plot.plotly_figure import Plot
from circuits.report.run import Run


@dataclass(frozen=True)
class Method:
    """How a figure was computed; folded away under it.

    steps: paragraphs. settings: every number that the figure depends on. source: the paper.
    """

    steps: Sequence[str]
    formula: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    source: str | None = None


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph. Plain text is escaped; `Markup` is taken as it is."""

    kind: ClassVar[str] = "text"
    text: str | Markup


@dataclass(frozen=True)
class Note:
    """One line on what is missing or undefined."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of findings, each with a word that says what it is about."""

    kind: ClassVar[str] = "bullets"
    items: Sequence[tuple[str, str | Markup]]


@dataclass(frozen=True)
class StatCard:
    """One key figure. detail: its interval and n."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True)
class StatCards:
    """Key figures side by side."""

    kind: ClassVar[str] = "stat_cards"
    items: Sequence[StatCard]


@dataclass(frozen=True)
class Figure:
    """A numbered plot with its caption.

    views: the plot, by the name of its tab; a single view has no tabs. All views are equally high.
    height: pixels.
    """

    kind: ClassVar[str] = "figure"
    caption: str | Markup
    views: Mapping[str, Plot]
    height: int
    method: Method | None = None
    chosen: str | None = None


@dataclass(frozen=True)
class Table:
    """A numbered table; the first column names the rows. views: rows by the name of their tab."""

    kind: ClassVar[str] = "table"
    caption: str | Markup
    head: Sequence[str | Markup]
    views: Mapping[str, Sequence[Sequence[str | Markup]]]
    method: Method | None = None
    chosen: str | None = None


@dataclass(frozen=True)
class Sentence:
    """A sentence of the example; masked: it is replaced in the corrupted prompts."""

    text: str
    masked: bool
    score: float | None


@dataclass(frozen=True)
class Article:
    """The example, and what follows it. variants: the corrupted texts by the corruption's name."""

    kind: ClassVar[str] = "article"
    caption: str | Markup
    title: str
    sentences: Sequence[Sentence]
    answer: str
    label: str
    variants: Mapping[str, Sequence[tuple[str, bool]]]
    method: Method | None = None


@dataclass(frozen=True)
class Code:
    """A file, folded away."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


@dataclass(frozen=True)
class Details:
    """Prose, folded away."""

    kind: ClassVar[str] = "details"
    title: str
    text: str


@dataclass(frozen=True)
class Explorer:
    """The explorer of the run's circuits; a page holds one at most. html: its own fragment."""

    kind: ClassVar[str] = "explorer"
    html: Markup


Block = (
    Heading
    | Text
    | Note
    | Bullets
    | StatCards
    | Figure
    | Table
    | Article
    | Code
    | Details
    | Explorer
)
Part = Callable[[Run], Iterable[Block]]


@dataclass(frozen=True)
class Section:
    """A chapter of the page: parts are tried one by one, so that one missing file costs one part.

    anchor: its address within the page.
    """

    anchor: str
    title: str
    parts: Sequence[Part]
