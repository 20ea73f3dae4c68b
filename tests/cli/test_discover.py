"""`circuits discover` refuses before it scores what it would refuse after."""

import json
from importlib import import_module

import pytest
import torch
from cli.inside import circuits
from cli.test_cli import refused
from typer.testing import CliRunner

import tasks
from circuits.cli.app import app
from circuits.cli.ranking import with_others
from circuits.errors import CircuitsError
from circuits.graph import Circuit, EdgeScores, Layout, NodeCircuit, NodeScores, select_nodes
from circuits.models import HookedModel

NEWSROOM = ("discover", "--model", "newsroom-gpt2", "--task", "newsroom", "--device", "cpu")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--strategy", "foo"), "unknown strategy 'foo'"),
        (("--strategy", "foo", "--size", "9"), "unknown strategy 'foo'"),
        (("--strategy", "greedy"), "--strategy greedy chooses edges; say how many with --size"),
        (
            ("--strategy", "stable", "--size", "9", "--no-per-example"),
            "--strategy stable needs the scores of single examples",
        ),
        ((), "it exists already and was selected from other scores"),
    ],
)
def test_a_choice_that_cannot_be_made(given, message, tmp_path, monkeypatch):
    (tmp_path / "circuit.json").touch()
    monkeypatch.setattr("circuits.cli.options.load_hooked", None)  # no model is loaded
    arguments = [*NEWSROOM, *given, "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, CircuitsError) and message in str(done.exception)


@pytest.mark.parametrize("level", ["edge", "node"])
def test_more_than_the_model_has(level, tmp_path, monkeypatch):
    monkeypatch.setattr("circuits.attribution.attribute", None)  # nothing is scored
    monkeypatch.setattr("circuits.attribution.attribute_nodes", None)
    arguments = [*NEWSROOM, "--level", level, "--size", "9999", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, CircuitsError)
    assert str(done.exception).startswith("--size 9999: this model has ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--level", "node"), "it exists already and was selected from other scores"),
        (("--level", "neuron", "--size", "9"), "it exists already and is a circuit of nodes"),
        (("--size", "9"), "it exists already and is a circuit of nodes"),
        (
            ("--level", "node", "--strategy", "top-n"),
            "--strategy top-n chooses nodes; say how many",
        ),
        (
            ("--level", "node", "--size", "9", "--strategy", "greedy"),
            "strategy 'greedy' orders edges; nodes are taken by strategy",
        ),
        (
            ("--level", "node", "--ranking", "signed"),
            "--ranking signed chooses nodes; say how many",
        ),
    ],
)
def test_a_choice_of_nodes_that_cannot_be_made(given, message, tmp_path, monkeypatch):
    layout = Layout(2, 2, 1)
    file = tmp_path / "circuit.json"
    if "greedy" not in given and "--ranking" not in given:
        NodeCircuit.of(layout, ["m0"]).save(file)
    monkeypatch.setattr("circuits.cli.options.load_hooked", None)  # no model is loaded
    done = CliRunner().invoke(app, [*NEWSROOM, *given, "--out", str(tmp_path)])
    assert isinstance(done.exception, CircuitsError) and message in str(done.exception)


@pytest.mark.parametrize(("level", "size"), [("node", 4), ("neuron", 90)])
def test_a_circuit_of_nodes_has_its_ranking_chosen(level, size, tmp_path):
    arguments = (*NEWSROOM, "--level", level, "--n", 4, "--steps", 2, "--size", size, "--quiet")
    done = circuits(*arguments, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"ranking chosen on 16 other pairs (validation), circuits of {size}:" in done.stdout
    assert f"circuits of {size} {level}s (top-n, " in done.stdout
    circuit, scores = NodeCircuit.load(tmp_path / "circuit.json"), NodeScores.load(tmp_path)
    selection = circuit.provenance.selection
    assert circuit.level == level and len(circuit) == selection.size == size
    assert selection.choice.ranking == selection.ranking
    names = ["absolute", "signed", "mixed 0.8"]
    assert [trial.name for trial in selection.choice.trials] == names
    assert circuit.mask.equal(selection.choice.select(scores).mask)
    mixed = ("--ranking", "mixed", "--positive-ratio", 0.6)
    again = circuits(*arguments, *mixed, "--out", tmp_path)
    assert again.returncode == 0 and "ranking chosen" not in again.stdout
    made = NodeCircuit.load(tmp_path / "circuit.json")
    expected = select_nodes(scores, size, ranking="mixed", positive_ratio=0.6)
    assert made.mask.equal(expected.mask) and made.provenance.selection.choice is None


def test_it_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    scoring = import_module("circuits.attribution.dataset_scores")
    over, ran = scoring.over_batches, []

    def interrupted(model, pairs, work, **settings):
        def once(hooked, batch):
            if len(ran) == 1:
                raise KeyboardInterrupt
            ran.append(batch)
            return work(hooked, batch)

        return over(model, pairs, once, **settings)

    def discover(out):
        arguments = (*NEWSROOM, "--n", 3, "--batch-size", 1, "--per-example", "--quiet")
        return circuits(*arguments, "--out", tmp_path / out)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "over_batches", interrupted)
        done = discover("stopped")
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip() == "circuits: interrupted; run again to go on"
    left = sorted(path.name for path in (tmp_path / "stopped").iterdir())
    assert left == ["scores.partial", "scores.partial.rows"]
    for out in ("stopped", "whole"):
        assert discover(out).returncode == 0
    for name in ("scores.safetensors", "scores.json"):
        one, other = (tmp_path / out / name for out in ("stopped", "whole"))
        assert one.read_bytes() == other.read_bytes()
    assert not list((tmp_path / "stopped").glob("scores.partial*"))


def test_nodes_and_neurons_have_files_of_their_own(tmp_path):
    for level in ("node", "neuron"):
        done = CliRunner().invoke(
            app, [*NEWSROOM, "--level", level, "--n", "2", "--quiet", "--out", str(tmp_path)]
        )
        assert done.exit_code == 0, done.exception
    names = {path.name for path in tmp_path.glob("*.safetensors")}
    assert names == {"node_scores.safetensors", "neuron_scores.safetensors"}
    refused(circuits("evaluate", "--scores", tmp_path, "--out", tmp_path), "several kinds")


def test_recomputation_gives_the_same_scores(tmp_path):
    for name, flag in (("with", "--recompute"), ("without", "--no-recompute")):
        out = str(tmp_path / name)
        done = CliRunner().invoke(app, [*NEWSROOM, "--n", "2", "--quiet", flag, "--out", out])
        assert done.exit_code == 0, done.exception
    found, expected = (EdgeScores.load(tmp_path / name).matrix for name in ("with", "without"))
    assert expected.abs().max() > 1e-3
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_the_ranking_is_chosen_on_more_pairs_and_the_scores_stay(tmp_path):
    arguments = [*NEWSROOM, "--n", "4", "--steps", "2", "--quiet"]
    plain = circuits(*arguments, "--out", tmp_path / "plain")
    chosen = circuits(*arguments, "--size", "48", "--out", tmp_path / "chosen")
    assert plain.returncode == chosen.returncode == 0, (plain.stderr, chosen.stderr)
    files = [tmp_path / name / "scores.safetensors" for name in ("plain", "chosen")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert "ranking chosen on 16 other pairs (validation), circuits of 48:" in chosen.stdout
    assert ", choosing the ranking " in chosen.stdout.splitlines()[-1]
    made = Circuit.load(tmp_path / "chosen" / "circuit.json").provenance.selection
    assert made.choice.n == 16 and made.ranking == made.choice.ranking
    assert f"taken: {made.ranking}" in chosen.stdout
    named = circuits(*arguments, "--size", "48", "--ranking", "signed", "--out", tmp_path / "named")
    assert named.returncode == 0 and "ranking chosen" not in named.stdout
    made = Circuit.load(tmp_path / "named" / "circuit.json").provenance.selection
    assert made.ranking == "signed" and made.choice is None


def test_pairs_are_split_off_where_a_file_has_no_more(tmp_path, tokenizer, model_folder):
    ids = [tokenizer(f" {word}")["input_ids"][0] for word in ("Mary", "John")]
    rows = [
        {"clean": [*ids, 30 + n], "corrupted": [ids[1], ids[0], 30 + n], "correct_idx": ids[0]}
        for n in range(36)
    ]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    task = tasks.load("table", path=file)
    pairs = task.pairs(tokenizer)
    model = HookedModel.from_pretrained(model_folder("gpt2"))
    kept, others = with_others(task, model, pairs, 0)
    assert (len(kept), len(others)) == (27, 9)
    assert not kept.shared(others.fingerprints) and others.shared(pairs.fingerprints) == 9
    some = task.pairs(tokenizer, n=12)
    kept, others = with_others(task, model, some, 0, fingerprints=pairs.fingerprints[:3])
    assert kept is some and 12 < len(others) <= 16 and not others.shared(some.fingerprints)
    assert not others.shared(pairs.fingerprints[:3])
    assert with_others(task, model, pairs[:20], 0, fingerprints=pairs.fingerprints)[1] is None


@pytest.mark.exhaustive
def test_until_stable_scores_as_many_pairs_as_it_takes_and_says_so(tmp_path):
    arguments = [*NEWSROOM, "--steps", "1", "--size", "80"]
    grown = circuits(
        *arguments,
        "--until-stable",
        "0.7",
        "--n",
        "6",
        "--max-n",
        "100",
        "--out",
        tmp_path / "grown",
    )
    assert grown.returncode == 0, grown.stderr
    made = EdgeScores.load(tmp_path / "grown").provenance
    n, found = made.data.n, made.reliability
    assert 6 < n < 100 and found.n == n
    assert found.target == 0.7 and found.likeness.value >= 0.7
    assert "6 pairs: Jaccard index with others" in grown.stdout and "warning" not in grown.stderr
    selection = Circuit.load(tmp_path / "grown" / "circuit.json").provenance.selection
    assert selection.ranking == found.ranking == selection.choice.ranking
    plain = circuits(*arguments, "--n", str(n), "--out", tmp_path / "plain")
    assert plain.returncode == 0
    one, other = (EdgeScores.load(tmp_path / name) for name in ("grown", "plain"))
    torch.testing.assert_close(one.matrix, other.matrix, atol=1e-6, rtol=1e-5)
    assert one.provenance.pairs == other.provenance.pairs


@pytest.mark.exhaustive
def test_until_stable_says_where_it_ran_out_of_pairs(tmp_path):
    arguments = [*NEWSROOM, "--steps", "1", "--size", "150", "--quiet", "--out", tmp_path]
    arguments += ["--ranking", "absolute"]
    done = circuits(*arguments, "--until-stable", "0.99", "--n", "6", "--max-n", "20")
    assert done.returncode == 0, done.stderr
    assert "warning: 0.99 was not reached with all 20 pairs" in done.stderr
    for given, message in (
        (("--max-n", "9"), "--max-n goes with --until-stable"),
        (("--until-stable", "0.8", "--method", "random"), "nor with random scores"),
        (("--until-stable", "1"), "a Jaccard index between 0 and 1"),
        (("--until-stable", "0.8", "--n", "2"), "takes at least 4"),
    ):
        refused(circuits(*arguments, *given), message)


@pytest.mark.exhaustive
def test_until_stable_goes_on_after_a_kill_to_the_same_bytes(tmp_path, monkeypatch):
    scoring = import_module("circuits.attribution.dataset_scores")
    over, ran = scoring.over_batches, []

    def interrupted(model, pairs, work, **settings):
        def once(hooked, batch):
            if len(ran) == 6:
                raise KeyboardInterrupt
            ran.append(batch)
            return work(hooked, batch)

        return over(model, pairs, once, **settings)

    def discover(out):
        arguments = (*NEWSROOM, "--steps", "1", "--size", "24", "--until-stable", "0.9")
        sizes = ("--n", 6, "--max-n", 21, "--batch-size", 2)
        return circuits(*arguments, *sizes, "--out", tmp_path / out)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "over_batches", interrupted)
        assert discover("stopped").returncode == 130
    left = sorted(path.name for path in (tmp_path / "stopped").iterdir())
    assert left == ["ranking.partial", "scores.partial", "scores.partial.rows"]
    again, whole = discover("stopped"), discover("whole")
    assert again.returncode == whole.returncode == 0, again.stderr
    said = "\n6 pairs: Jaccard index with others"
    assert said in whole.stdout and said not in again.stdout
    for name in ("scores.safetensors", "scores.json", "circuit.json"):
        one, other = (tmp_path / out / name for out in ("stopped", "whole"))
        assert one.read_bytes() == other.read_bytes(), name
    left = sorted(path.name for path in (tmp_path / "stopped").iterdir())
    assert left == ["circuit.json", "scores.json", "scores.safetensors"]
