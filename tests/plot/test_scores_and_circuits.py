"""Figures of scores and of an evaluation show the numbers of their results."""

from __future__ import annotations

from dataclasses import replace

import pytest

from circuits.evaluation import Estimate
from circuits.plot.figures.faithfulness import faithfulness_curves
from circuits.plot.figures.minimality import minimality_dots
from circuits.plot.figures.score_heatmap import score_heatmap
from circuits.runs import RunFolder


def test_the_heatmap_shows_the_matrix(opened: RunFolder) -> None:
    scores = opened.scores["step-300"]
    trace = score_heatmap(scores)["data"][0]
    for row, (values, kept) in enumerate(zip(trace["z"], scores.mask.tolist(), strict=True)):
        for column, (value, there) in enumerate(zip(values, kept, strict=True)):
            if there:
                assert value == pytest.approx(float(scores.matrix[row, column]), rel=6e-3)
            else:
                assert value is None
    assert trace["x"][0] == "a0.h0&lt;q&gt;"
    assert trace["y"][:2] == ["input", "a0.h0"]


def test_curves_carry_the_values_of_the_file(opened: RunFolder) -> None:
    checkpoints = opened.evaluation.checkpoints
    found = {name: one.faithfulness for name, one in checkpoints.items()}
    circuits = {name: one.circuit for name, one in checkpoints.items()}
    plot = faithfulness_curves(found, circuits)
    lines = [t for t in plot["data"] if t.get("name") == "ranked by |score|"]
    assert len(lines) == len(found)
    for line, one in zip(lines, checkpoints.values(), strict=True):
        curve = one.curves.curves["absolute"]
        assert tuple(line["x"]) == curve.fractions
        assert line["y"] == pytest.approx([value.value for value in curve.values], rel=1e-3)
    assert sum(trace.get("showlegend", True) for trace in plot["data"]) == 4
    (alone,) = faithfulness_curves({"a": found["base"]}, columns=1)["layout"]["annotations"]
    assert alone["text"] == "<b>a</b>"


def test_minimality_tells_sure_drops_from_others(opened: RunFolder) -> None:
    found = opened.evaluation.last.minimality
    sure, unsure, *_ = minimality_dots(found)["data"]
    drops = list(found.drops.values())
    assert len(sure["x"]) + len(unsure["x"]) == len(drops)
    assert len(sure["x"]) == sum(drop.low > 0 or drop.high < 0 for drop in drops)


def test_the_band_of_the_control_is_its_central_95_percent(opened: RunFolder) -> None:
    control = {f"e{place}": Estimate(place / 40, 0.0, 1.0, 9) for place in (39, *range(39), 40)}
    found = replace(opened.evaluation.last.minimality, control=control)
    band = minimality_dots(found)["layout"]["shapes"][0]
    assert (band["y0"], band["y1"]) == pytest.approx((0.025, 0.975))
