import json
import shutil

import pytest
import torch

from circuits.comparison import compare
from circuits.format import typeset
from circuits.graph import EdgeScores
from circuits.report.change import write_change_page
from circuits.report.figures.dots import Dot, Series, dot_panels
from circuits.report.figures.panels import balanced
from circuits.report.figures.trajectory import courses, entry_bars, entry_raster
from circuits.report.run import Run
from circuits.report.sections.comparison import likeness, turnover
from circuits.runtime.files import write_json


def page(whole_run, folder, *names):
    for name in names:
        shutil.copy(whole_run / name, folder / name)
    return write_change_page(folder)


def test_the_page_holds_words_figures_and_the_matrix(whole_run, tmp_path):
    path = page(whole_run, tmp_path, "comparison.json", "cross_evaluation.json")
    assert path == tmp_path / "comparison.html"
    text = path.read_text()
    assert "What changed from base to step-300" in text
    for name in ("comparison.json", "cross_evaluation.json"):
        words = typeset(json.loads((tmp_path / name).read_text())["paragraph"])
        assert words.split(";")[0] in text
    for caption in ("noise ceiling", "labels swapped", "first enter", "in each checkpoint (rows)"):
        assert caption in text
    assert "<both>" not in text, "what a file says is escaped"
    assert not [line for line in text.splitlines() if 'src="http' in line]
    assert write_change_page(tmp_path).read_text() == text


def test_circuits_judged_on_what_they_were_chosen_on_are_said_to_be(whole_run, tmp_path):
    text = page(whole_run, tmp_path, "comparison.json", "cross_evaluation.json").read_text()
    assert "which flatters f" not in text and "newsroom, split test" in text
    found = json.loads((tmp_path / "cross_evaluation.json").read_text())
    scored = json.loads((tmp_path / "comparison.json").read_text())
    scored["data"]["pairs"], found["data"]["pairs"] = ["a", "b", "c"], ["c", "d", "b"]
    write_json(tmp_path / "comparison.json", scored)
    write_json(tmp_path / "cross_evaluation.json", found)
    said = "scored on 2 of these examples, which flatters f"
    assert said in write_change_page(tmp_path).read_text()


def test_without_models_there_is_no_matrix(whole_run, tmp_path):
    text = page(whole_run, tmp_path, "comparison.json").read_text()
    assert "Circuits in other checkpoints" not in text and "By training step" in text


def test_a_checkpoint_against_itself(whole_run, tmp_path):
    scores = EdgeScores.load(whole_run / "scores" / "base.safetensors")
    found = compare([scores, scores], names=["one", "two"], n_resamples=100)
    write_json(tmp_path / "comparison.json", found.to_dict())
    text = write_change_page(tmp_path).read_text()
    assert "no change" in text and "no edge and no node changed" in text
    assert "The largest changes" not in text, "rows of zeros say nothing"


def test_what_the_intervals_come_from_is_told(whole_run, tmp_path):
    """Likeness and turnover are no bootstrap: their number of samples is fixed."""
    scores = EdgeScores.load(whole_run / "scores" / "base.safetensors")
    found = compare([scores, scores], n_resamples=123)
    write_json(tmp_path / "comparison.json", found.to_dict())
    assert "123 resamples for edges and node totals, 200 random halves" in found.paragraph()
    run = Run(tmp_path)
    (alike, *_), (_, bars, parts) = likeness(run), turnover(run)
    assert alike.method.settings["gap subsets"] == 60 and bars.method.settings["halves"] == 200
    assert "n_resamples" not in {**alike.method.settings, **bars.method.settings}
    assert parts.method.settings["n_resamples"] == 123


def test_titles_of_panels_have_room():
    short = ["base → step-100"] * 4
    assert balanced(short) == 4 and balanced(short * 2) == 4 and balanced(short[:3] * 2) == 3
    assert balanced(["checkpoint-1000 → checkpoint-1500"] * 4) == 2
    assert balanced(["x" * 200] * 3) == 1 and balanced([]) == 1


def test_steps_that_double_do_not_fall_together():
    line = {"name": "a", "values": [1.0] * 11, "low": [0.0] * 11, "high": [2.0] * 11}
    for steps, crowded in (
        ([0, *(2**k for k in range(10))], True),
        (list(range(0, 1100, 100)), False),
        (list(range(11)), False),
        ([0, 1, 10_000], True),
    ):
        names = list(map(str, steps))
        ends = {key: line[key][: len(steps)] for key in ("values", "low", "high")}
        plot = courses(names, steps, [{"name": "a", **ends}], title="")
        assert (plot["layout"]["xaxis"].get("type") == "category") == crowded, steps
        assert plot["data"][0]["x"] == (names if crowded else steps)


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


def test_entries_of_the_final_circuit_are_counted_and_ordered(run):
    course = run.part("comparison.json", "trajectory")
    first, stable_from = entry_bars(course)["data"]
    assert sum(first["y"]) == sum(stable_from["y"]) == course["size"] > 0
    cells, rings = entry_raster(course)["data"]
    order = [course["checkpoints"].index(name) for name in rings["x"]]
    assert order == sorted(order) and len(set(order)) > 1
    shares = torch.tensor(cells["z"])
    assert shares.shape == (len(order), len(course["checkpoints"]))
    # The ring stands where the means put the edge in, so seldom where resamples leave it out.
    assert float(shares[torch.arange(len(order)), torch.tensor(order)].mean()) > 0.5
