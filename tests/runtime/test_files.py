"""Files are whole or absent."""

import errno
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from circuits.errors import CircuitsError
from circuits.runtime.files import atomic_path, fingerprint, read_json, working_in, write_json


def test_a_failure_leaves_the_old_file_and_no_trace(tmp_path):
    target = tmp_path / "value.json"
    write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["value.json"]


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("old", "new"):
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_file_takes_no_folders_place(tmp_path):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "folder.json/thesis.txt").write_text("years of work")
    with pytest.raises(CircuitsError, match=r"folder\.json: a folder; give a file"):
        write_json(tmp_path / "folder.json", {"a": 1})
    assert (tmp_path / "folder.json/thesis.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


def test_all_files_are_as_readable_as_any_other(tmp_path):
    (tmp_path / "other").touch()
    with atomic_path(tmp_path / "private") as temporary:
        temporary.touch(mode=0o600)
    with atomic_path(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "private").touch(mode=0o600)
    modes = {(tmp_path / name).stat().st_mode for name in ("other", "private", "folder/private")}
    assert len(modes) == 1


def test_equal_values_are_equal_bytes(tmp_path):
    write_json(tmp_path / "a", {"x": 1.5, "y": [1, 2]})
    write_json(tmp_path / "b", dict(reversed(list({"x": 1.5, "y": [1, 2]}.items()))))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nan_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a", float("nan"))
    assert not list(tmp_path.iterdir())


def test_json_is_written_without_the_whole_text_in_memory(tmp_path):
    value = {"rows": [{"value": place / 7} for place in range(20_000)]}
    tracemalloc.start()
    write_json(tmp_path / "a", value)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    text = (tmp_path / "a").read_text()
    assert text == json.dumps(value, indent=1) + "\n"
    assert most < len(text) / 2


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(CircuitsError, match=r"a\.json: no such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CircuitsError, match=r"a\.json: not a JSON file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps([1]))
    assert read_json(tmp_path / "a.json") == [1]


HOLDER = """
import sys, time
from circuits.runtime.files import working_in
with working_in(sys.argv[1], "state"):
    print("holds it", flush=True)
    time.sleep(600)
"""


def test_a_folder_is_held_by_one_process_until_it_ends_or_dies(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "holds it\n"
        (tmp_path / "run" / ".state.a_bc1234").mkdir()
        with (
            pytest.raises(CircuitsError, match="run: another process works in this folder"),
            working_in(tmp_path / "run", "state"),
        ):
            pass
        assert (tmp_path / "run" / ".state.a_bc1234").exists(), "what it writes is left to it"
        process.send_signal(signal.SIGKILL)
    for _ in range(2):
        with working_in(tmp_path / "run", "state"):
            assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_only_own_leftovers_are_removed(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "step-10") as temporary:
        own = temporary.parent.rename(tmp_path / ".step-10.k3_llme2")
        raise KeyboardInterrupt
    others = [".git.old", ".cache.d", ".step-10.backup", ".step-10.k3_llme2.old", ".x.k3_llme2"]
    for name in others:
        (tmp_path / name).mkdir()
    with working_in(tmp_path, r"state\.pt|step-\d+"):
        assert not own.exists() and all((tmp_path / name).is_dir() for name in others)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    def refuse(*_, **__):  # no mode of a folder stops root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(CircuitsError, match=r"run: cannot be written to \(Permission denied"),
        working_in(tmp_path / "run", "state"),
    ):
        pass


def test_a_fingerprint_is_of_names_and_bytes(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / ".hidden").write_text("y")
    found = [fingerprint(tmp_path)]
    (tmp_path / ".hidden").write_text("z")
    assert fingerprint(tmp_path) == found[0]
    (tmp_path / "a").write_text("y")
    found.append(fingerprint(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    found.append(fingerprint(tmp_path))
    assert len(set(found)) == 3
    with pytest.raises(CircuitsError, match=r"c: cannot be read \(No such file"):
        fingerprint(tmp_path / "c")


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a": ' + "9" * 5000 + "}"])
def test_json_that_python_does_not_take_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CircuitsError, match=r"a\.json: not a JSON file"):
        read_json(tmp_path / "a.json")
