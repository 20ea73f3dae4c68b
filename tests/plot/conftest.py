"""The made-up run, opened."""

from __future__ import annotations

from pathlib import Path

import pytest

import circuits
from circuits.runs import RunFolder


@pytest.fixture(scope="session")
def opened(whole_run: Path) -> RunFolder:
    """The complete run, its parts as objects."""
    return circuits.open_run(whole_run)
