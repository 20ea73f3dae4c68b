"""Weights of an ensemble: two halves of a known circuit are worth something together only."""

import pytest
import torch
from cli.inside import circuits as run
from known.build import induction

import circuits
from circuits.errors import CircuitsError
from circuits.evaluation import EnsembleWeights, WeightTrials, choose_weights
from circuits.graph import Circuit, EdgeScores
from circuits.graph.provenance import Provenance, TaskRecord
from circuits.inspection import inspect
from tasks import load


@pytest.fixture(scope="module")
def known():
    return induction(12, 0)


def half(known, edges, seed):
    """Scores that know some edges of the circuit, and nothing of the others."""
    layout = known.model.layout
    draw = torch.rand(layout.shape, generator=torch.Generator().manual_seed(seed))
    matrix = 0.1 * draw * layout.mask
    for edge in edges:
        matrix[layout.edge(edge)] = 1.0
    return EdgeScores(matrix, layout, f"half {seed}", Provenance(pairs=("elsewhere",)))


def test_halves_are_put_together(known):
    names = sorted(known.edges)
    members = [half(known, names[:3], 0), half(known, names[3:], 1)]
    choice = choose_weights(known.model, members, known.pairs, WeightTrials(size=5, draws=2))
    assert len(choice.trials) == 2 * (1 + 2 + 2)
    alone = [one for one in choice.trials if 1.0 in one.weights]
    assert len(alone) == 4 and all(one.f.value < 0.9 for one in alone)
    assert 0 < choice.weights[0] < 1
    found = choice.scores(members)
    circuit = circuits.select(found, size=5, ranking=choice.ranking)
    assert set(circuit.edges) == known.edges
    taken = choice.trials[[one.weights for one in choice.trials].index(choice.weights)]
    assert taken.f.value == pytest.approx(1, abs=0.01) and taken.n_kept == 5
    assert set(found.provenance.pairs) == {"elsewhere", *known.pairs.fingerprints}
    with pytest.raises(CircuitsError, match="12 of the 12 pairs were scored on"):
        choose_weights(known.model, [members[0], found], known.pairs, WeightTrials(size=5))


def test_on_the_command_line(model_folder, hooked, tmp_path):
    words = ["Mary", "John", "Paris", "Rome", "book"]
    rows = [f"and {one} gave a book to,and {two} gave a book to, {one}, {two}"
            for one in words for two in words if one != two]  # fmt: skip
    file = tmp_path / "pairs.csv"
    file.write_text("\n".join(["clean,corrupted,correct,incorrect", *rows]))
    model = hooked("gpt2")
    pairs = load("table", path=file).pairs(model.tokenizer, n=8, split="all")
    for name, method in (("a", "eap"), ("b", "clean-corrupted")):
        scores = circuits.attribute(model, pairs, method)
        task = TaskRecord(name="table", data=str(file))
        scores.noting(task=task).save(tmp_path / name)
    members, out = (tmp_path / "a", tmp_path / "b"), tmp_path / "out"
    done = run("ensemble", *members, "--weight", 1, "--weight", 3, "--out", out)
    assert done.returncode == 0, done.stderr
    settings = EdgeScores.load(out).provenance.settings
    assert settings["member_2"] == "clean-corrupted x 0.75"
    chosen = ("--size", 20, "--draws", 1, "--choose", 8, "--split", "all", "--device", "cpu")
    done = run("ensemble", *members, *chosen, "--quiet", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "on 8 other pairs" in done.stdout and done.stdout.count("f ") >= 8
    choice = EnsembleWeights.load(out / "ensemble.json")
    assert choice.members == ("eap", "clean-corrupted")
    assert not set(choice.pairs) & set(pairs.fingerprints)
    assert 0 < len(Circuit.load(out / "circuit.json")) <= 20
    assert inspect(out / "ensemble.json").facts["chosen on"].endswith("for circuits of 20")
    for wrong, message in (
        (("--draws", 3), "--draws goes with --size"),
        (("--size", 20, "--weight", 1), "leave --weight out"),
    ):
        done = run("ensemble", *members, *wrong, "--out", out)
        assert done.returncode == 2 and message in done.stderr
