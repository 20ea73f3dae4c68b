"""`circuits discover` refuses before it scores what it would refuse after."""

import json
from importlib import import_module

import pytest
from cli.inside import circuits
from cli.test_cli import refused
from typer.testing import CliRunner

import tasks
from circuits.cli.app import app
from circuits.cli.ranking import with_others
from circuits.errors import CircuitsError
from circuits.models import HookedModel

NEWSROOM = ("discover", "--model", "newsroom-gpt2", "--task", "newsroom", "--device", "cpu")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--rule", "foo"), "unknown rule 'foo'"),
        (("--rule", "foo", "--edges", "9"), "unknown rule 'foo'"),
        (("--rule", "greedy"), "--rule greedy chooses edges; say how many with --edges"),
        (("--rule", "stable", "--edges", "9"), "--rule stable needs --per-example"),
        ((), "it would stay beside scores that it was not chosen by"),
    ],
)
def test_a_choice_that_cannot_be_made(given, message, tmp_path, monkeypatch):
    (tmp_path / "circuit.json").touch()
    monkeypatch.setattr("circuits.cli.options.load_hooked", None)  # no model is loaded
    arguments = [*NEWSROOM, *given, "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, CircuitsError) and message in str(done.exception)


def test_more_edges_than_the_model_has(tmp_path, monkeypatch):
    monkeypatch.setattr("circuits.attribution.attribute", None)  # nothing is scored
    arguments = [*NEWSROOM, "--edges", "99999", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, CircuitsError)
    assert str(done.exception).startswith("--edges 99999: this model has ")


def test_it_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    scoring = import_module("circuits.attribution.attribute")
    over, ran = scoring.over_batches, []

    def interrupted(model, pairs, work, **settings):
        def once(batch):
            if len(ran) == 1:
                raise KeyboardInterrupt
            ran.append(batch)
            return work(batch)

        return over(model, pairs, once, **settings)

    def discover(out):
        arguments = (*NEWSROOM, "--n", 3, "--batch-size", 1, "--per-example", "--quiet")
        return circuits(*arguments, "--out", tmp_path / out)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "over_batches", interrupted)
        done = discover("stopped")
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip() == "circuits: interrupted; run again to go on"
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["scores.unfinished"]
    for out in ("stopped", "whole"):
        assert discover(out).returncode == 0
    for name in ("scores.safetensors", "scores.json"):
        one, other = (tmp_path / out / name for out in ("stopped", "whole"))
        assert one.read_bytes() == other.read_bytes()
    assert not (tmp_path / "stopped" / "scores.unfinished").exists()


def test_nodes_and_neurons_have_files_of_their_own(tmp_path):
    for level in ("node", "neuron"):
        done = CliRunner().invoke(
            app, [*NEWSROOM, "--level", level, "--n", "2", "--quiet", "--out", str(tmp_path)]
        )
        assert done.exit_code == 0, done.exception
    names = {path.name for path in tmp_path.glob("*.safetensors")}
    assert names == {"node_scores.safetensors", "neuron_scores.safetensors"}
    refused(circuits("evaluate", "--scores", tmp_path, "--out", tmp_path), "several kinds")


def test_the_ranking_is_chosen_on_more_pairs_and_the_scores_stay(tmp_path):
    arguments = [*NEWSROOM, "--n", "4", "--steps", "2", "--quiet"]
    plain = circuits(*arguments, "--out", tmp_path / "plain")
    chosen = circuits(*arguments, "--edges", "48", "--out", tmp_path / "chosen")
    assert plain.returncode == chosen.returncode == 0, (plain.stderr, chosen.stderr)
    files = [tmp_path / name / "scores.safetensors" for name in ("plain", "chosen")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert "ranking chosen on 16 other pairs (validation), circuits of 48:" in chosen.stdout
    record = json.loads((tmp_path / "chosen" / "circuit.json").read_text())["details"]
    assert record["choice"]["n"] == 16 and record["ranking"] == record["choice"]["ranking"]
    assert f"taken: {record['ranking']}" in chosen.stdout
    named = circuits(
        *arguments, "--edges", "48", "--ranking", "signed", "--out", tmp_path / "named"
    )
    assert named.returncode == 0 and "ranking chosen" not in named.stdout
    record = json.loads((tmp_path / "named" / "circuit.json").read_text())["details"]
    assert record["ranking"] == "signed" and "choice" not in record


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
    kept, others = with_others(task, model, some, 0, known=pairs.fingerprints[:3])
    assert kept is some and 12 < len(others) <= 16 and not others.shared(some.fingerprints)
    assert not others.shared(pairs.fingerprints[:3])
    assert with_others(task, model, pairs[:20], 0, known=pairs.fingerprints)[1] is None
