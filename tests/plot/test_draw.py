"""Results that show themselves: figures that stand alone, tables, and what a notebook prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.graph_objects import Figure

from circuits import plot
from circuits.errors import CircuitsError
from circuits.evaluation import Faithfulness
from circuits.plot.palette import DARK, LIGHT
from circuits.runs import RunFolder

DISPLAYED = [
    "evaluation",
    "comparison",
    "cross_evaluation",
    "patching",
    "lora",
    "lora_circuits",
    "scores['base']",
    "circuits['base']",
    "evaluation.last.faithfulness",
    "model_diff.comparisons[0]",
]


def part(opened: RunFolder, place: str) -> Any:
    return eval(f"opened.{place}", {"opened": opened})


@pytest.mark.parametrize("place", DISPLAYED)
def test_a_result_shows_itself(opened: RunFolder, place: str) -> None:
    result = part(opened, place)
    figure, dark = result.plot(), result.plot(dark=True)
    assert isinstance(figure, go.Figure) and len(figure.data) > 0
    assert (figure.layout.paper_bgcolor, dark.layout.paper_bgcolor) == (
        LIGHT["paper"],
        DARK["paper"],
    )
    frame = result.to_frame()
    assert isinstance(frame, pd.DataFrame) and len(frame) > 0
    shown = result._repr_html_()
    assert type(result).__name__ in shown and "<table" in shown
    assert repr(result).startswith(f"<{type(result).__name__}: ") and len(repr(result)) < 400
    assert str(result) == repr(result)


def test_a_point_of_the_curve_is_the_number_of_the_result(opened: RunFolder) -> None:
    found = opened.evaluation.last.faithfulness
    assert isinstance(found, Faithfulness)
    frame = found.to_frame()
    assert len(frame) == len(found.curves) * len(found.fractions)
    signed = frame[(frame.ranking == "signed") & (frame.fraction == found.fractions[3])]
    assert signed.f.item() == found.curves["signed"].values[3].value
    (drawn,) = [
        trace
        for trace in found.plot().data
        if trace.customdata is not None and "signed" in trace.name
    ]
    assert list(drawn.y) == pytest.approx([f.value for f in found.curves["signed"].values], 1e-3)


def test_edges_in_a_frame_are_those_of_the_circuit(opened: RunFolder) -> None:
    circuit, scores = opened.circuits["base"], opened.scores["base"]
    frame = circuit.to_frame()
    assert {f"{row.source}->{row.reader}" for row in frame.itertuples()} == {*circuit.edges}
    assert frame.score.abs().is_monotonic_decreasing
    every = scores.to_frame()
    assert len(every) == scores.layout.n_edges
    first = every.iloc[0]
    assert first.score == scores[f"{first.source}->{first.reader}"] != 0


def test_patches_in_a_frame_are_those_of_the_sweep(opened: RunFolder) -> None:
    found = opened.patching
    frame = found.to_frame()
    assert list(frame.head(3).itertuples(index=False, name=None)) == [
        (name, recovery, *frame.iloc[row, 2:]) for row, (name, recovery) in enumerate(found.top(3))
    ]


@pytest.mark.parametrize(
    "draw",
    [plot.similarity, plot.turnover, plot.variance, plot.inclusion],
    ids=lambda f: f.__name__,
)
def test_an_evolution_has_four_figures(opened: RunFolder, draw: Any) -> None:
    assert len(draw(opened.comparison).data) > 0


def test_the_parts_of_an_evaluation_have_figures(opened: RunFolder) -> None:
    last = opened.evaluation.last
    assert len(plot.minimality(last.minimality).data) > 0  # type: ignore[arg-type]
    assert len(plot.draw(opened.training_log).data) > 0


def test_what_has_no_figure_says_so() -> None:
    with pytest.raises(CircuitsError, match=r"no figure of a dict; see circuits\.plot"):
        plot.draw({})


def test_a_metric_that_was_not_measured(opened: RunFolder) -> None:
    with pytest.raises(CircuitsError, match=r"metric 'nll': measured were "):
        opened.patching.plot(metric="nll")


def test_a_figure_is_saved_as_its_ending_says(opened: RunFolder, tmp_path: Path) -> None:
    figure = opened.circuits["base"].plot()
    page = plot.save(figure, tmp_path / "new" / "circuit.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page and "cdn.plot.ly" not in page.split("Plotly.newPlot")[-1]
    with pytest.raises(CircuitsError, match=r"circuit\.bmp: a figure is saved as \.html, \.svg"):
        plot.save(figure, tmp_path / "circuit.bmp")


def test_images_are_asked_of_plotly(
    opened: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure, written = opened.circuits["base"].plot(), []
    monkeypatch.setattr(
        Figure, "write_image", lambda self, path, scale: written.append((path.name, scale))
    )
    plot.save(figure, tmp_path / "circuit.svg")
    plot.save(figure, tmp_path / "circuit.png", scale=3.0)
    assert written == [("circuit.svg", 2.0), ("circuit.png", 3.0)]

    def missing(self: Figure, path: Path, scale: float) -> None:
        raise ValueError("Image export using the 'kaleido' engine requires ...")

    monkeypatch.setattr(Figure, "write_image", missing)
    with pytest.raises(CircuitsError, match=r"svg needs the package kaleido and a Chrome"):
        plot.save(figure, tmp_path / "circuit.svg")
