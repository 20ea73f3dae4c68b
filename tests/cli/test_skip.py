"""`--skip-bad-rows` leaves out rows that cannot be used, says so, and lists them."""

import json

import pytest
from cli.inside import circuits

from circuits.graph import EdgeScores

GOOD = {"clean": [5, 6, 7], "corrupted": [5, 8, 7], "correct_idx": 10, "incorrect_idx": 11}


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([GOOD, {**GOOD, "corrupted": [5, 8]}, {**GOOD, "clean": [5, 9, 7]}]))
    return path


def discover(pairs, *more):
    return circuits(
        *("discover", "--model", "newsroom-gpt2", "--task", "table", "--data", pairs),
        *("--method", "eap", "--out", pairs.parent / "scores", "--device", "cpu", "--quiet", *more),
    )


def test_discover_leaves_rows_out_only_when_told(pairs):
    refused = discover(pairs)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("circuits: pairs.json, row 2: the clean prompt has 3 tokens")
    made = discover(pairs, "--skip-bad-rows")
    assert made.returncode == 0, made.stderr
    assert (
        "warning: 2 rows kept, 1 row left out: 1 x the clean prompt has 3 tokens and "
        in made.stderr
    )
    out = pairs.parent / "scores"
    (row,) = json.loads((out / "skipped.json").read_text())
    assert row["source"] == "pairs.json, row 2" and "equal lengths" in row["reason"]
    made = EdgeScores.load(out).provenance
    assert (made.data.n, made.data.skipped) == (2, 1)
    assert made.task.options == ("skip=true",)  # so that `evaluate` does as much
    pairs.write_text(json.dumps([GOOD]))
    assert discover(pairs, "--skip-bad-rows").returncode == 0
    assert not (out / "skipped.json").exists()


def test_a_task_without_rows_has_none_to_leave_out():
    made = circuits(
        *("patch", "--model", "newsroom-gpt2", "--task", "ioi", "--skip-bad-rows", "--n", 1)
    )
    assert made.returncode == 2
    assert "--skip-bad-rows: task 'ioi' makes its prompts and reads no rows" in made.stderr


def test_finetune_lists_what_it_left_out(tmp_path):
    rows = [
        {"article": f"Town {i} is big. It rained.", "highlights": f"Big {i}.", "split": split}
        for i, split in enumerate(["train"] * 6 + ["validation"] * 3)
    ]
    rows[1]["article"] = " "
    rows[4]["article"] = "and so on " * 200
    path = tmp_path / "articles.json"
    path.write_text(json.dumps(rows))
    made = circuits(
        *("finetune", "--model", "newsroom-gpt2", "--task", "summarization", "--data", path),
        *("--examples", 4, "--validation", 2, "--steps", 1, "--batch-size", 4, "--quiet"),
        *("--skip-bad-rows", "--out", tmp_path / "tuned", "--device", "cpu"),
    )
    assert made.returncode == 0, made.stderr
    listed = json.loads((tmp_path / "tuned" / "skipped.json").read_text())
    assert {row["source"] for row in listed} == {"articles.json, row 2", "articles.json, row 5"}
    assert any("context window" in row["reason"] for row in listed)
