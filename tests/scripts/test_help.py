"""Every script still finds what it imports, and says what it takes."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PATHS = sorted(SCRIPTS.rglob("*.py"))


@pytest.fixture
def alone():
    """Leaves no module behind: scripts import one another under names that others use too."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and SCRIPTS in Path(file).parents:
            del sys.modules[name]


def test_all_are_found():
    names = {str(path.relative_to(SCRIPTS)) for path in PATHS}
    assert {"studies.py", "check_statistics.py", "benchmarks/attribution.py"} <= names


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(SCRIPTS)))
@pytest.mark.usefixtures("alone")
def test_help(path, monkeypatch, capsys):
    for folder in (SCRIPTS, path.parent):  # as Python does for what it runs
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    if "__main__" not in path.read_text():  # what scripts have in common
        runpy.run_path(str(path), run_name="script")
        return
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {path.name}")
