"""Circuits of one model on the pairs of several tasks."""

import math

import pytest
import torch
from cli.inside import circuits as run
from known.build import induction

import circuits
from circuits.comparison import CrossTasks, cross_tasks
from circuits.errors import CircuitsError, UndefinedMetricError
from circuits.evaluation import measure
from circuits.evaluation.measure import faithfulness_from_means
from circuits.graph import Circuit, NodeCircuit
from circuits.graph.provenance import TaskRecord
from circuits.inspection import inspect
from tasks import load


def test_every_circuit_on_all_pairs(tmp_path):
    known, other = induction(8, 0), induction(6, 1)
    model, layout = known.model, known.model.layout
    right, full = Circuit.of(layout, known.edges), Circuit.full(layout)
    half = Circuit.of(layout, sorted(known.edges)[:3])
    found = cross_tasks(
        model, {"a": right, "half": half, "full": full}, {"a": known.pairs, "b": other.pairs}
    )
    assert found.sizes == (5, 3, layout.n_edges) and found.circuits == ("a", "half", "full")
    for row, pairs in zip(found.rows, (known.pairs, other.pairs), strict=True):
        means = measure(model, pairs, [right, half, full]).columns.mean(dim=0, keepdim=True)
        expected = faithfulness_from_means(means)[0].tolist()
        assert [one.value for one in row.f] == pytest.approx(expected)
        assert row.f[0].value == pytest.approx(1, abs=0.01) and row.f[1].value < 0.9
        assert row.control.value < 0.5 and row.data.n == len(pairs)
    own, none = found.rows
    assert own.behind[1].value == pytest.approx(own.f[0].value - own.f[1].value)
    assert none.behind is None
    assert found.jaccard[0] == pytest.approx((1, 3 / 5, 5 / layout.n_edges))
    assert f"f on b: a {none.f[0]}; half" in found.lines()[2]
    assert "Jaccard of a and half: 0.60" in found.lines()
    assert CrossTasks.load(found.save(tmp_path / "c.json")) == found
    assert (
        len(found.to_frame()) == 6 and inspect(tmp_path / "c.json").facts["on pairs of"] == "a, b"
    )


def test_what_cannot_be_told_and_what_is_refused(hooked, random_pairs, monkeypatch):
    model, pairs = hooked("gpt2"), random_pairs(n=3)
    full = Circuit.full(model.layout)

    def undefined(*_, **__):
        raise UndefinedMetricError("faithfulness is not defined")

    with monkeypatch.context() as patched:
        patched.setattr("circuits.comparison.across.measure", undefined)
        found = cross_tasks(model, {"all": full}, {"same": pairs})
    (row,) = found.rows
    assert row.f == () and math.isnan(row.clean) and row.undefined in found.lines()[1]
    assert math.isnan(found.to_frame()["f"][0])
    nodes = NodeCircuit.of(model.layout, ["input", "m0"])
    with pytest.raises(CircuitsError, match="edges, of nodes and of neurons are not compared"):
        cross_tasks(model, {"a": full, "b": nodes}, {"p": pairs})
    with pytest.raises(CircuitsError, match="0 circuits and 1 sets of pairs"):
        cross_tasks(model, {}, {"p": pairs})


def test_on_the_command_line(hooked, tmp_path):
    words = ["Mary", "John", "Paris", "Rome"]
    for name, ends in (("gift", "gave a book to"), ("place", "is the capital of")):
        rows = [f"and {one} {ends},and {two} {ends}, {one}, {two}"
                for one in words for two in words if one != two]  # fmt: skip
        file = tmp_path / f"{name}.csv"
        file.write_text("\n".join(["clean,corrupted,correct,incorrect", *rows]))
        model = hooked("gpt2")
        pairs = load("table", path=file).pairs(model.tokenizer, n=4, split="all")
        scores = circuits.attribute(model, pairs, "eap")
        scores.noting(task=TaskRecord(name="table", data=str(file))).save(tmp_path / name)
    files, out = (tmp_path / "gift", tmp_path / "place"), tmp_path / "out"
    words = ("compare", *files, "--across", "--n", 5, "--device", "cpu", "--quiet", "--out", out)
    done = run(*words, "--n-resamples", 100)
    assert done.returncode == 0, done.stderr
    found = CrossTasks.load(out / "cross_tasks.json")
    assert found.circuits == ("gift", "place") and [row.data.n for row in found.rows] == [5, 5]
    assert torch.tensor(found.jaccard).diagonal().tolist() == [1, 1]
    assert "f on place: gift " in done.stdout and "scored on" in done.stderr
    done = run(*words, "--task", "ioi")
    assert done.returncode == 2 and "--across takes model and tasks from the scores" in done.stderr
