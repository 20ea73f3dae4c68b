"""A study is the functions' own results, on pairs that are never used twice."""

from __future__ import annotations

import json

import pytest
import torch

import circuits
import tasks
from circuits.errors import CircuitsError
from circuits.evaluation import EvalConfig, RankingTrials, measure
from circuits.evaluation.measure import faithfulness_from_means
from circuits.options.run import RunOptions
from circuits.study import Study, Summary


@pytest.fixture(scope="module")
def study():
    study = Study("newsroom-gpt2", "newsroom", quiet=True)
    study.discover(n=8, size=40, steps=2)
    return study


def test_discover_is_what_the_functions_give(study):
    task, model = tasks.load("newsroom"), study.model
    pairs = task.pairs(model.tokenizer, n=8, split="train", n_ctx=model.n_ctx)
    scores = circuits.attribute(model, pairs, steps=2)
    assert torch.equal(study.scores.matrix, scores.matrix) and scores.matrix.abs().max() > 0
    others = task.pairs(model.tokenizer, n=16, split="validation", n_ctx=model.n_ctx)
    choice = circuits.choose_ranking(model, scores, others, RankingTrials(40))
    assert study.circuit.edges == choice.select(scores).edges
    assert study.circuit.provenance.selection.choice == choice
    assert study.performance.n == 8
    assert [step.name for step in study.steps][:3] == ["does the task", "scores", "circuit"]


def test_pairs_are_used_once(study):
    study.evaluate(n=3, config=EvalConfig())
    used = [set(pairs.fingerprints) for pairs in study.pairs.values()]
    assert [len(one) for one in used] == [8, 16, 3]
    assert len(set.union(*used)) == 27
    measured = measure(study.model, study.pairs["evaluate"], [study.circuit])
    f = float(faithfulness_from_means(measured.columns.mean(dim=0)))
    assert study.evaluation.circuit.faithfulness.value == pytest.approx(f, rel=1e-5) and f != 0


def test_what_is_not_done_is_said():
    study = Study("newsroom-gpt2", "newsroom", quiet=True)
    for name, advice in (
        ("scores", "discover"),
        ("circuit", "discover"),
        ("evaluation", "evaluate"),
    ):
        with pytest.raises(CircuitsError, match=rf"call {advice}\(\)"):
            getattr(study, name)
    with pytest.raises(CircuitsError, match=r"call discover\(\)"):
        study.evaluate()
    assert study.summary().rows == ()


def test_compare_is_about_the_same_pairs(study):
    other = circuits.HookedModel.from_pretrained("newsroom-gpt2")
    with torch.no_grad():
        for parameter in other.hf.parameters():
            parameter.mul_(1.02)
    found = study.compare(other, name="scaled")
    assert found.names == ("newsroom-gpt2", "scaled") and not found.overall.identical
    assert study.comparisons == {"scaled": found}
    assert found.data.fingerprint == study.pairs["score"].fingerprint
    assert study.steps[-1].name == "beside scaled"


def test_the_summary_is_a_table_in_a_frame(study):
    found = study.summary()
    assert [row[0] for row in found.rows][:3] == ["does the task", "scores", "circuit"]
    assert found.rows[1][1] == "479 edges by eap-ig" and found.rows[1][2] == "8 pairs (train)"
    lines = str(found).splitlines()
    assert lines[0].startswith("newsroom-gpt2 on newsroom")
    assert lines[1][0] + lines[1][-1] + lines[-1][0] + lines[-1][-1] == "┌┐└┘"
    assert len({len(line) for line in lines[1:]}) == 1
    assert list(found.to_frame().columns) == ["what", "found", "on", "took"]
    assert "<table" in found._repr_html_()


def test_a_long_finding_is_wrapped():
    found = Summary("t", (("what", "word " * 40, "1 pair (test)", "1.0 s"),))
    assert max(len(line) for line in str(found).splitlines()) < 100
    assert str(found).count("word") == 40


def test_steps_are_told_with_their_time(capsys):
    study = Study("newsroom-gpt2", "newsroom", options=RunOptions(seed=1))
    study.discover(n=2, size=0.05, ranking="absolute", method="eap")
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == ["does the task", "scores", "circuit"]
    assert said[1].startswith("scores: 479 edges by eap (2 pairs (train)), ")
    assert all(line.endswith(" s") for line in said)
    assert "choose" not in study.pairs


def test_rows_that_are_left_out_are_told(tmp_path, capsys):
    rows = [{"person": name, "answer": f" {name}"} for name in ("Ana", "Eva", "Ana Eva Ana")]
    (tmp_path / "rows.json").write_text(json.dumps([{**row, "split": "train"} for row in rows]))
    task = tasks.load("table", path=tmp_path / "rows.json", clean="Mr {person}", correct="{answer}")
    study = Study("newsroom-gpt2", task)
    study.discover(n=3, size=9, ranking="absolute", method="eap")
    assert "2 rows kept, 1 row left out: 1 x no peer" in capsys.readouterr().out
