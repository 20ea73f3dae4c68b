import json
import shutil

import torch

from circuits.evolution import compare
from circuits.files import write_json
from circuits.graph import EdgeScores
from circuits.report.change import write_change_page
from circuits.report.figures.trajectory import entry_bars, entry_raster
from circuits.report.numbers import typeset


def page(whole_run, folder, *names):
    for name in names:
        shutil.copy(whole_run / name, folder / name)
    return write_change_page(folder)


def test_the_page_holds_words_figures_and_the_matrix(whole_run, tmp_path):
    path = page(whole_run, tmp_path, "evolution.json", "crossing.json")
    assert path == tmp_path / "evolution.html"
    text = path.read_text()
    assert "What changed from base to step-300" in text
    for name in ("evolution.json", "crossing.json"):
        words = typeset(json.loads((tmp_path / name).read_text())["paragraph"])
        assert words.split(";")[0] in text
    for caption in ("noise ceiling", "labels swapped", "first enter", "in each checkpoint (rows)"):
        assert caption in text
    assert "<both>" not in text, "what a file says is escaped"
    assert not [line for line in text.splitlines() if 'src="http' in line]
    assert write_change_page(tmp_path).read_text() == text


def test_circuits_judged_on_what_they_were_chosen_on_are_said_to_be(whole_run, tmp_path):
    text = page(whole_run, tmp_path, "evolution.json", "crossing.json").read_text()
    assert "which flatters f" not in text and "newsroom, split test" in text
    found = json.loads((tmp_path / "crossing.json").read_text())
    found["data"] = json.loads((tmp_path / "evolution.json").read_text())["data"]
    write_json(tmp_path / "crossing.json", found)
    assert "which flatters f" in write_change_page(tmp_path).read_text()


def test_without_models_there_is_no_matrix(whole_run, tmp_path):
    text = page(whole_run, tmp_path, "evolution.json").read_text()
    assert "Circuits in other checkpoints" not in text and "By training step" in text


def test_a_checkpoint_against_itself(whole_run, tmp_path):
    scores = EdgeScores.load(whole_run / "scores" / "base.safetensors")
    found = compare([scores, scores], names=["one", "two"], n_bootstrap=100)
    write_json(tmp_path / "evolution.json", found.to_dict())
    assert "no change" in write_change_page(tmp_path).read_text()


def test_entries_of_the_final_circuit_are_counted_and_ordered(run):
    course = run.part("evolution.json", "trajectory")
    first, settled = entry_bars(course)["data"]
    assert sum(first["y"]) == sum(settled["y"]) == course["size"] > 0
    cells, rings = entry_raster(course)["data"]
    order = [course["checkpoints"].index(name) for name in rings["x"]]
    assert order == sorted(order) and len(set(order)) > 1
    shares = torch.tensor(cells["z"])
    assert shares.shape == (len(order), len(course["checkpoints"]))
    # The ring stands where the means put the edge in, so seldom where resamples leave it out.
    assert float(shares[torch.arange(len(order)), torch.tensor(order)].mean()) > 0.5
