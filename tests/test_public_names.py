"""What `import circuits` and `import tasks` offer, and that no other `circuits` is in the way."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

import circuits
import tasks
from circuits import graph
from circuits.options.declared import Options
from tasks.namesake import DISTRIBUTION, refuse_namesake

ROOT = Path(circuits.__file__).parent.parent


@pytest.mark.parametrize("package", [circuits, tasks])
def test_every_public_name_is_there_and_listed(package):
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018 - the access itself is tried


def test_every_name_that_has_a_home_is_public():
    eager = {"CircuitsError", "InputError", "UndefinedMetricError", "UnsupportedError", "plot"}
    assert set(circuits._HOME_OF) | eager == set(circuits.__all__)


def _of_ours(hint: object) -> Iterator[type]:
    """The classes of these packages in an annotation, at any depth."""
    if isinstance(hint, type) and hint.__module__.split(".")[0] in ("circuits", "tasks"):
        yield hint
    for inner in get_args(hint):
        yield from _of_ours(inner)


def _hints(public: object) -> dict[str, object]:
    """Annotations, with the names that their files import for type checkers alone.

    A server can be imported with the extra `explore` only, so it is no name of the package.
    """
    names = {name: getattr(package, name) for package in (graph, tasks) for name in package.__all__}
    return get_type_hints(public, localns={**names, "ExplorerServer": object})


def test_what_public_functions_take_and_give_is_public_too():
    """And what the settings that they take are made of."""
    public = {getattr(package, name) for package in (circuits, tasks) for name in package.__all__}
    hinted = [one for one in public if inspect.isfunction(one) or _is_options(one)]
    assert circuits.attribute in hinted and circuits.EvalConfig in hinted and len(hinted) > 50
    missing = {
        f"{kind.__name__} of {one.__name__}"
        for one in hinted
        for hint in _hints(one).values()
        for kind in _of_ours(hint)
        if kind not in public
    }
    assert not missing


def _is_options(public: object) -> bool:
    """Whether it is a class of settings."""
    return isinstance(public, type) and issubclass(public, Options)


def test_the_version_stands_in_one_place():
    """The distribution takes it from the package; what people read by hand says the same."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["project"]["name"] == DISTRIBUTION
    assert settings["project"]["dynamic"] == ["version"]
    taken = settings["tool"]["setuptools"]["dynamic"]["version"]
    assert taken == {"attr": "circuits.__version__"}
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == circuits.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None and newest[1] == circuits.__version__


def test_another_circuits_that_is_imported_first_is_refused(tmp_path):
    other = tmp_path / "circuits"
    other.mkdir()
    (other / "__init__.py").write_text("from os import getpid as Component\n")
    done = _imported("import circuits; circuits.Component; import tasks", tmp_path, ROOT)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: `import circuits` gives {other / '__init__.py'}, not ")
    assert "pip uninstall circuits" in last


def test_another_circuits_in_the_same_folder_is_refused(tmp_path):
    for package in ("circuits", "tasks"):
        (tmp_path / package).mkdir()
        for file in (ROOT / package).glob("*.py"):
            shutil.copy(file, tmp_path / package)
    assert _imported("import circuits", tmp_path).returncode == 0
    (tmp_path / "circuits-3.2.5.dist-info").mkdir()
    done = _imported("import circuits", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"ImportError: circuits-3.2.5.dist-info beside {DISTRIBUTION}: another package named "
    )


def test_where_no_circuits_can_be_found_that_is_said(tmp_path):
    with pytest.raises(ImportError, match=r"not .*__init__\.py"):
        refuse_namesake(tmp_path)


def _imported(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that runs the code with these folders, not its own, first on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
