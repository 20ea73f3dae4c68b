import shutil

import pytest
import torch

from circuits.comparison import compare
from circuits.format import typeset
from circuits.graph import EdgeScores
from circuits.report import narrative
from circuits.report.comparison_page import write_comparison_page
from circuits.report.figures.comparison import turnover_bars
from circuits.report.figures.dots import Dot, Series, dot_panels
from circuits.report.figures.panels import balanced
from circuits.report.figures.trajectory import (
    Line,
    inclusion_bars,
    inclusion_raster,
    trajectory_lines,
)
from circuits.report.run import Run
from circuits.report.sections.comparison import similarity, turnover
from circuits.statistics.estimate import Estimate


def page(whole_run, folder, *names):
    for name in names:
        shutil.copy(whole_run / name, folder / name)
    return write_comparison_page(folder)


def test_the_page_holds_words_figures_and_the_matrix(whole_run, tmp_path):
    path = page(whole_run, tmp_path, "comparison.json", "cross_evaluation.json")
    assert path == tmp_path / "comparison.html"
    text = path.read_text()
    assert "What changed from base to step-300" in text
    run = Run(tmp_path)
    for words in (
        narrative.evolution(run.comparison),
        narrative.cross_evaluation(run.cross_evaluation),
    ):
        assert typeset(words).split(";")[0] in text
    for caption in (
        "noise ceiling",
        "labels swapped",
        "holds them first",
        "in each checkpoint (rows)",
    ):
        assert caption in text
    assert "<both>" not in text, "what a file says is escaped"
    assert not [line for line in text.splitlines() if 'src="http' in line]
    assert write_comparison_page(tmp_path).read_text() == text


def test_circuits_judged_on_what_they_were_chosen_on_are_said_to_be(whole_run, tmp_path):
    text = page(whole_run, tmp_path, "comparison.json", "cross_evaluation.json").read_text()
    assert "which flatters f" not in text and "newsroom, split test" in text
    run = Run(tmp_path)
    scored = run.comparison.model_copy(update={"pairs": ("a", "b", "c")})
    scored.save(tmp_path / "comparison.json")
    matrix = run.cross_evaluation.model_copy(update={"pairs": ("c", "d", "b")})
    matrix.save(tmp_path / "cross_evaluation.json")
    said = "scored on 2 of these examples, which flatters f"
    assert said in write_comparison_page(tmp_path).read_text()


def test_without_models_there_is_no_matrix(whole_run, tmp_path):
    text = page(whole_run, tmp_path, "comparison.json").read_text()
    assert "Circuits in other checkpoints" not in text and "By training step" in text


def test_a_checkpoint_against_itself(whole_run, tmp_path):
    scores = EdgeScores.load(whole_run / "scores" / "base.safetensors")
    found = compare([scores, scores], names=["one", "two"], n_resamples=100)
    found.save(tmp_path / "comparison.json")
    text = write_comparison_page(tmp_path).read_text()
    assert "no change" in text and "no edge and no node changed" in text
    assert "The largest changes" not in text, "rows of zeros say nothing"


def test_what_the_intervals_come_from_is_told(whole_run, tmp_path):
    """Similarity and turnover use no bootstrap: their number of samples is fixed."""
    scores = EdgeScores.load(whole_run / "scores" / "base.safetensors")
    found = compare([scores, scores], n_resamples=123)
    found.save(tmp_path / "comparison.json")
    assert "123 resamples for edges and node totals, 200 random halves" in narrative.evolution(
        found
    )
    run = Run(tmp_path)
    (alike, *_), (_, bars, parts) = similarity(run), turnover(run)
    assert alike.method.settings["gap subsets"] == 60 and bars.method.settings["halves"] == 200
    assert "n_resamples" not in {**alike.method.settings, **bars.method.settings}
    assert parts.method.settings["n_resamples"] == 123


def test_titles_of_panels_have_room():
    short = ["base → step-100"] * 4
    assert balanced(short) == 4 and balanced(short * 2) == 4 and balanced(short[:3] * 2) == 3
    assert balanced(["checkpoint-1000 → checkpoint-1500"] * 4) == 2
    assert balanced(["x" * 200] * 3) == 1 and balanced([]) == 1


def test_steps_that_double_do_not_fall_together():
    for steps, crowded in (
        ([0, *(2**k for k in range(10))], True),
        (list(range(0, 1100, 100)), False),
        (list(range(11)), False),
        ([0, 1, 10_000], True),
    ):
        names = list(map(str, steps))
        line = Line("a", [Estimate(1.0, 0.0, 2.0, 8)] * len(steps))
        plot = trajectory_lines(names, steps, [line], title="")
        assert (plot["layout"]["xaxis"].get("type") == "category") == crowded, steps
        assert plot["data"][0]["x"] == (names if crowded else steps)


def test_an_undefined_figure_is_a_gap_in_its_line():
    estimate = Estimate(1.0, 0.5, 2.0, 8)
    (line,) = trajectory_lines(["a", "b"], None, [Line("x", [estimate, None])], title="")["data"]
    assert line["y"] == [1.0, None]
    assert line["error_y"]["array"] == [1.0, 0.0] and line["error_y"]["arrayminus"] == [0.5, 0.0]


def test_dots_of_one_value_have_a_sensible_axis():
    """Plotly would show the rounding."""
    for values, expected in (
        ([1.0, 1 - 1e-9], [0.95, 1.05]),
        ([0.0, 0.0], [-0.05, 0.05]),
        ([1.0, 0.99], None),
    ):
        dots = [Dot(0, row, value, value, value) for row, value in enumerate(values)]
        plot = dot_panels(["a"], ["x", "y"], [Series("s", "$ink", dots)], columns=1, title="")
        found = plot["layout"]["xaxis"].get("range")
        assert found == (None if expected is None else pytest.approx(expected))


def test_turnover_bars_stand_on_each_other(run):
    """The upper bar ends at 1 - Jaccard, and the error bar has that interval."""
    overall = run.comparison.overall
    lower, upper, _, swapped = turnover_bars([overall], 1)["data"]
    for index, size in enumerate(overall.sizes):
        shared = size.edge_jaccard
        for bar, side in ((upper, shared.estimate), (swapped, shared.permuted)):
            top = bar["base"][index] + bar["y"][index]
            assert top == pytest.approx(1 - side.value, abs=1e-3)
            error = bar["error_y"]
            ends = top - error["arrayminus"][index], top + error["array"][index]
            assert ends == pytest.approx((1 - side.high, 1 - side.low), abs=1e-3)
        assert lower["y"][index] == pytest.approx(size.node_driven.estimate.value, abs=1e-3)


def test_edges_of_the_final_circuit_are_counted_and_ordered(run):
    trajectory = run.comparison.trajectory
    first, stable_from = inclusion_bars(trajectory)["data"]
    assert sum(first["y"]) == sum(stable_from["y"]) == trajectory.size > 0
    cells, rings = inclusion_raster(trajectory)["data"]
    order = [trajectory.checkpoints.index(name) for name in rings["x"]]
    assert order == sorted(order) and len(set(order)) > 1
    shares = torch.tensor(cells["z"])
    assert shares.shape == (len(order), len(trajectory.checkpoints))
    # The ring stands where the means put the edge in, so seldom where resamples leave it out.
    assert float(shares[torch.arange(len(order)), torch.tensor(order)].mean()) > 0.5
