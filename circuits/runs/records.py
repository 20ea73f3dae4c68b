"""Small files of a run folder: the example that is laid open, and where the run was made."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from circuits.graph.provenance import Versions
from circuits.runtime.result_file import Record, ResultFile


class ExampleSentence(Record):
    """A sentence of the example. score: its ROUGE against the summary. salient: it is corrupted."""

    text: str
    score: float | None
    salient: bool


class Segment(Record):
    """A piece of a corrupted prompt, and whether it differs from the clean one."""

    text: str
    corrupted: bool


class ExampleFile(ResultFile):
    """One prompt pair of the evaluation set as text: pairs/example.json.

    Attributes:
        title: where it is from.
        sentences: of an article; empty for a task without articles.
        answer: the right one, or the summary.
        clean_prompt: what the model reads.
        corruptions: the corrupted prompt, in pieces, by the corruption's name.
    """

    KIND: ClassVar[str] = "example"

    title: str
    sentences: tuple[ExampleSentence, ...] = ()
    answer: str
    clean_prompt: str
    corruptions: dict[str, tuple[Segment, ...]] = Field(default_factory=dict)


class Environment(ResultFile):
    """Machine and versions of a run: environment.json.

    Attributes:
        versions: of the packages that a figure can depend on.
        python: its version.
        platform: the operating system.
        threads: of torch.
        device: that the models ran on.
        seconds: by stage, of the process that did it.
    """

    KIND: ClassVar[str] = "environment"

    versions: Versions
    python: str
    platform: str
    threads: int
    device: str
    seconds: dict[str, float]
