"""Files are whole or absent."""

import json

import pytest

from circuits.errors import CircuitsError
from circuits.files import atomic_path, read_json, write_json


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


def test_equal_values_are_equal_bytes(tmp_path):
    write_json(tmp_path / "a", {"x": 1.5, "y": [1, 2]})
    write_json(tmp_path / "b", dict(reversed(list({"x": 1.5, "y": [1, 2]}.items()))))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nan_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a", float("nan"))
    assert not list(tmp_path.iterdir())


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(CircuitsError, match=r"a\.json: no such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CircuitsError, match=r"a\.json: not a JSON file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps([1]))
    assert read_json(tmp_path / "a.json") == [1]
