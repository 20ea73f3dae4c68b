"""`circuits evaluate` as a user has it: as a process, on GPT-2 and on a Llama with GQA."""

import json
import shutil
from itertools import permutations

import pytest
from cli.test_cli import circuits, refused

from circuits.cli.evaluate import _show_curve

WORDS = ["Mary", "John", "Paris", "Rome", "book"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory, tokenizer):
    """Twenty rows with a split of their own: ten to score on, ten not to."""
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    ids = {word: tokenizer(f" {word}")["input_ids"][0] for word in WORDS}
    lines = ["clean,corrupted,correct_idx,incorrect_idx,split"]
    lines += [
        f"and {a} gave a book to,and {b} gave a book to,{ids[a]},{ids[b]},"
        f"{'test' if number % 2 else 'validation'}"
        for number, (a, b) in enumerate(permutations(WORDS, 2))
    ]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def discovered(request, rows, model_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("discovered")
    done = circuits(
        *("discover", "--model", model_folder(request.param), "--task", "table", "--data", rows),
        *("--split", "validation", "--per-example", "--out", out, "--device", "cpu", "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    return out


def test_it_needs_the_scores_alone_and_takes_a_split_that_they_have_not_seen(discovered, tmp_path):
    done = circuits(
        *("evaluate", "--scores", discovered, "--out", tmp_path, "--device", "cpu", "--quiet"),
        *("--minimality", "--completeness"),
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "faithfulness f on 10 pairs (test), 95 % intervals" in done.stdout
    for words in ("CPR", "CMD", "(random", "100.0%", "idle edges", "gap of", "overlap under"):
        assert words in done.stdout, words
    written = json.loads((tmp_path / "evaluation.json").read_text())
    (record,) = written["checkpoints"].values()
    lines = record["faithfulness"]["curves"]
    assert lines["absolute"]["values"][-1]["value"] == pytest.approx(1, abs=1e-3)
    assert f"CPR {_said(lines['signed']['area'])}" in done.stdout
    assert f"CMD {_said(lines['absolute']['distance'])}" in done.stdout
    assert written["pairs"]["evaluate"]["split"] == "test"
    assert written["pairs"]["score"]["split"] == "validation"
    fingerprints = {written["pairs"][use]["fingerprint"] for use in ("score", "evaluate")}
    assert len(fingerprints) == 2
    page = (tmp_path / "evaluation.html").read_text()
    assert "How far the claim holds" in page and "Does it hold all that matters?" in page
    assert "1 checkpoint:" in page and "1 checkpoint," in page
    assert "What fine-tuning changed" not in page and "could not be made" not in page


def _said(value):
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def test_examples_that_were_scored_on_are_warned_of(discovered, rows, tmp_path):
    command = ("evaluate", "--scores", discovered, "--out", tmp_path, "--device", "cpu", "--quiet")
    for given, words in (
        (("--split", "validation"), "10 of the 10 pairs were scored on"),
        (("--split", "all"), "10 of the 20 pairs were scored on"),
    ):
        done = circuits(*command, *given)
        assert done.returncode == 0, done.stderr
        assert f"warning: {words}; figures on unseen" in done.stderr


def test_older_scores_do_not_say_of_which_pairs_they_are(discovered, tmp_path):
    shutil.copytree(discovered, tmp_path / "old")
    path = tmp_path / "old" / "scores.json"
    record = json.loads(path.read_text())
    assert len(set(record.pop("pairs"))) == 10
    path.write_text(json.dumps(record))
    command = ("evaluate", "--scores", tmp_path / "old", "--out", tmp_path, "--device", "cpu")
    done = circuits(*command, "--quiet", "--split", "validation")
    assert "warning: 10 of the 10 pairs were scored on" in done.stderr, "an equal set"
    done = circuits(*command, "--quiet", "--split", "validation", "--n", 5)
    assert "made from the same split (validation) and do not say of which pairs" in done.stderr


def test_wide_intervals_leave_the_columns_apart(capsys):
    wide = {"value": -12345.678, "low": -98765.432, "high": 98765.432, "n": 10}
    curve = {"values": [wide], "edges": [9], "kept": [9.0], "notes": [None]}
    lines = dict.fromkeys(("absolute", "signed", "random"), curve)
    _show_curve({"curves": lines, "level": "edge", "fractions": [0.5]})
    head, row = capsys.readouterr().out.splitlines()
    assert row.split("  ")[-3:] == [_said(wide)] * 3
    assert row.index(_said(wide), row.index(_said(wide)) + 1) == head.index("signed")


@pytest.fixture(scope="module", params=[("gpt2", "node"), ("llama", "neuron")])
def of_nodes(request, rows, model_folder, tmp_path_factory):
    name, level = request.param
    out = tmp_path_factory.mktemp("nodes")
    done = circuits(
        *("discover", "--model", model_folder(name), "--task", "table", "--data", rows),
        *("--level", level, "--split", "validation", "--per-example", "--out", out),
        *("--device", "cpu", "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    return level, out


def test_scores_of_nodes_and_neurons_are_evaluated_in_the_same_way(of_nodes, tmp_path):
    level, scores = of_nodes
    command = ("evaluate", "--scores", scores, "--out", tmp_path, "--device", "cpu", "--quiet")
    done = circuits(*command, "--minimality", "--completeness")
    assert done.returncode == 0 and not done.stderr, done.stderr
    for words in (f"{level}s    kept", "CPR", "(random", "100.0%", "idle nodes", "overlap under"):
        assert words in done.stdout, (words, done.stdout)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    (record,) = written["checkpoints"].values()
    curves = record["faithfulness"]["curves"]
    assert curves["absolute"]["values"][-1]["value"] == pytest.approx(1, abs=1e-3)
    assert f"CMD {_said(curves['absolute']['distance'])}" in done.stdout
    assert f"{record['stability']['core']} {level}s in 95 %" in done.stdout
    page = (tmp_path / "evaluation.html").read_text()
    assert f"share of {level}s kept" in page and "could not be made" not in page
    refused(
        circuits(*command, "--rule", "greedy"),
        f"rule 'greedy' orders edges; {level}s are taken by rule \"top-n\"",
    )


def test_what_cannot_be_evaluated_is_refused_and_leaves_nothing(discovered, rows, tmp_path):
    command = ("evaluate", "--scores", discovered, "--device", "cpu", "--quiet")
    command += ("--out", tmp_path / "out")
    refused(circuits(*command, "--share", 2), "--share 2.0: it must be above 0 and at most 1")
    refused(circuits(*command, "--rule", "luck"), "unknown rule 'luck'")
    refused(circuits(*command, "--perturb", "noise"), "unknown perturbation 'noise'")
    same = rows.read_text().splitlines()
    same = [same[0], *(_blind(line) for line in same[1:])]
    (tmp_path / "blind.csv").write_text("\n".join(same))
    blind = circuits(
        *command, "--task", "table", "--data", tmp_path / "blind.csv", "--metric", "accuracy"
    )
    refused(blind, "faithfulness is not defined: accuracy is 0 on the clean prompts and 0 on the")
    assert not (tmp_path / "out").exists()


def _blind(line):
    """The same prompts, with answers that no model of random weights gives."""
    clean, corrupted, *_, split = line.split(",")
    return f"{clean},{corrupted},1,2,{split}"
