"""Every figure of the page: plotly takes it, and it says how it was computed and from how much."""

from __future__ import annotations

import re
from typing import Any

import plotly.graph_objects as go
import pytest

from circuits.plot.palette import DARK, LIGHT, resolve
from circuits.report.blocks import Figure
from circuits.report.run import Run
from circuits.report.run_page import SECTIONS


@pytest.fixture(scope="module")
def figures(run: Run) -> list[Figure]:
    blocks = [block for section in SECTIONS for part in section.parts for block in part(run)]
    return [block for block in blocks if isinstance(block, Figure)]


def test_plotly_accepts_every_figure_in_both_schemes(figures: list[Figure]) -> None:
    assert len(figures) >= 12
    for figure in figures:
        for plot in figure.views.values():
            for palette in (LIGHT, DARK):
                go.Figure(resolve(plot, palette))


def test_every_figure_says_how_it_was_computed(figures: list[Figure]) -> None:
    for figure in figures:
        assert figure.method is not None and figure.method.steps
        assert str(figure.caption).endswith((".", "intervals."))


def test_captions_say_how_many_examples(figures: list[Figure]) -> None:
    counted = re.compile(r"n = \d+|\d+ (examples|documents|held-out|steps)")
    silent = [str(one.caption)[:40] for one in figures if not counted.search(str(one.caption))]
    assert silent == [
        "The circuit of each checkpoint, with the",
        "Left: the layers that each condition ada",
    ]


def test_colours_are_names_of_the_palette(figures: list[Figure]) -> None:
    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for item in value.values() for text in strings(item)]
        if isinstance(value, list | tuple):
            return [text for item in value for text in strings(item)]
        return [value] if isinstance(value, str) else []

    for figure in figures:
        for plot in figure.views.values():
            for text in strings(plot):
                assert not re.fullmatch(r"#[0-9a-f]{3,8}", text)
