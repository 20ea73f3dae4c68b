"""`--out`: looked at before the work, never lost after it."""

import errno

import pytest
from cli.inside import circuits
from cli.test_cli import refused
from safetensors import SafetensorError
from typer.testing import CliRunner

from circuits.cli import app
from circuits.errors import CircuitsError

NOTHING = ("--model", "nowhere/at-all", "--task", "newsroom")
VERBS = {
    "discover": NOTHING,
    "evaluate": ("--scores", "nothing"),
    "compare": ("nothing",),
    "convert": ("nothing",),
    "finetune": NOTHING,
    "diff": (*NOTHING, "--base", "nowhere/at-all"),
    "lora": ("--model", "nowhere/at-all", "--circuit", "nothing"),
    "patch": NOTHING,
    "search": (*NOTHING, "--tau", "1"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_it_is_looked_at_before_anything_is_read(verb, tmp_path):
    (tmp_path / "file").touch()
    for out, why in (
        (tmp_path / "file", f"{tmp_path / 'file'} is no folder"),
        (tmp_path / "file/in/it", f"{tmp_path / 'file'} is no folder"),
        ("/proc/out", "No such file or directory"),
    ):
        done = CliRunner().invoke(app.app, [verb, *VERBS[verb], "--out", str(out)])
        assert isinstance(done.exception, CircuitsError)
        assert str(done.exception) == f"{out}: cannot be written to ({why})"


def test_convert_leaves_a_folder_that_is_named_as_a_file(tmp_path):
    (tmp_path / "graph.json").mkdir()
    (tmp_path / "graph.json/kept").touch()
    done = circuits("convert", "nothing", "--d-model", 8, "--out", tmp_path / "graph.json")
    refused(done, "graph.json: a folder; give a file")
    assert (tmp_path / "graph.json/kept").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "scores.json"),
        SafetensorError("No space left on device"),
    ],
)
def test_a_disk_that_fills_is_one_line(error, monkeypatch, capsys):
    def fails():
        raise error

    monkeypatch.setattr(app, "app", fails)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("circuits: ") and "No space left on device" in line
