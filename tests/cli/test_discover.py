"""`circuits discover` refuses before it scores what it would refuse after."""

import pytest
from cli.inside import circuits
from cli.test_cli import refused
from typer.testing import CliRunner

from circuits.cli.app import app
from circuits.errors import CircuitsError

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


def test_nodes_and_neurons_have_files_of_their_own(tmp_path):
    for level in ("node", "neuron"):
        done = CliRunner().invoke(
            app, [*NEWSROOM, "--level", level, "--n", "2", "--quiet", "--out", str(tmp_path)]
        )
        assert done.exit_code == 0, done.exception
    names = {path.name for path in tmp_path.glob("*.safetensors")}
    assert names == {"node_scores.safetensors", "neuron_scores.safetensors"}
    refused(circuits("evaluate", "--scores", tmp_path, "--out", tmp_path), "several kinds")
