"""The made-up run as the report reads it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from circuits.report.run import Run


@pytest.fixture(scope="session")
def run(whole_run: Path) -> Run:
    """The complete run, read."""
    return Run(whole_run)


@pytest.fixture
def folder(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of the complete run, to be changed."""
    return Path(shutil.copytree(whole_run, tmp_path / "fake"))
