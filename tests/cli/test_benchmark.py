"""`circuits submission` and `circuits benchmark`: what is submitted is what is evaluated."""

import json

import mib_rows
import pytest
from cli.inside import circuits
from cli.test_cli import refused

from circuits.evaluation import MIBEvaluation
from circuits.graph.submission import CellFiles

NAMES = ("Mary", "John", "Paris", "Rome")


@pytest.fixture(scope="module")
def scored(model_folder, tmp_path_factory):
    """A tiny GPT-2's scores on rows in MIB's form, and the rows' file."""
    folder = tmp_path_factory.mktemp("scored")
    rows = [
        mib_rows.ioi(one, two, one, split=split)
        for split in ("train", "test")
        for one in NAMES
        for two in NAMES
        if one != two
    ]
    path = mib_rows.write(folder / "ioi.jsonl", rows)
    done = circuits(
        *("discover", "--model", model_folder("gpt2"), "--task", "mib-ioi", "--data", path),
        *("--task-option", "add_bos=false", "--task-option", "skip=true"),
        *("--split", "train", "--n", 3, "--steps", 1, "--out", folder / "scores"),
    )
    assert done.returncode == 0, done.stderr
    return model_folder("gpt2"), path, folder / "scores"


def benchmark(scored, found, out):
    model, path, _ = scored
    return circuits(
        *("benchmark", found, "--model", model, "--task", "mib-ioi", "--data", path),
        *("--task-option", "add_bos=false", "--task-option", "skip=true"),
        *("--split", "test", "--n", 2, "--out", out),
    )


def test_scores_and_their_submission_are_evaluated_alike(scored, tmp_path):
    _, _, scores = scored
    done = circuits("submission", scores, "--cell", "ioi_gpt2", "--out", tmp_path / "sub")
    assert done.returncode == 0, done.stderr
    assert "not yet a submission: " in done.stderr and "1 model that can be read" in done.stderr
    found = {}
    for name, place in {"ours": scores, "theirs": tmp_path / "sub/ioi_gpt2"}.items():
        done = benchmark(scored, place, tmp_path / name)
        assert done.returncode == 0, done.stderr
        found[name] = MIBEvaluation.load(tmp_path / name / "mib.json")
    assert found["ours"] == found["theirs"]
    assert f"CPR {found['ours'].cpr}   CMD {found['ours'].cmd}" in done.stdout
    written = json.loads((tmp_path / "theirs/results.json").read_text())
    assert written["method_name"] == "ioi_gpt2"
    (result,) = written["results"]
    assert result["scores"]["mib-ioi"] == found["ours"].in_mibs_form()


def test_nine_circuits_by_our_own_strategy(scored, tmp_path):
    _, _, scores = scored
    done = circuits(
        *("submission", scores, "--cell", "ioi_gpt2", "--strategy", "widest-path"),
        *("--ranking", "signed", "--pt", "--out", tmp_path / "sub"),
    )
    assert done.returncode == 0, done.stderr
    assert len(CellFiles.read(tmp_path / "sub/ioi_gpt2").circuits()) == 9
    done = benchmark(scored, tmp_path / "sub/ioi_gpt2", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    result = MIBEvaluation.load(tmp_path / "out/mib.json")
    assert result.signed == result.absolute and result.signed.faithfulness[-1].value == 1


def test_what_does_not_go_together_is_refused(scored, tmp_path):
    _, _, scores = scored
    out = ("--out", tmp_path / "sub")
    refused(
        circuits("submission", scores, *out), "none of MIB's table; name the folder with --cell"
    )
    refused(circuits("submission", scores, "--ranking", "signed", *out), "goes with --strategy")
    two = ("--cell", "ioi_gpt2", "--cell", "ioi_llama3")
    refused(circuits("submission", scores, *two, *out), "2 --cell for 1 folders of scores")
    refused(benchmark(scored, tmp_path / "nowhere.json", tmp_path / "o"), "nowhere.json")
