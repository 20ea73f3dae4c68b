"""A run folder read back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import circuits
from circuits.errors import CircuitsError


def test_nothing_is_read_before_it_is_asked_for(whole_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole_run, tmp_path / "run"))
    (folder / "evaluation.json").write_text("{", encoding="utf-8")
    opened = circuits.open_run(folder)
    assert opened.comparison.n > 0
    with pytest.raises(CircuitsError, match=r"evaluation\.json: not a JSON file"):
        _ = opened.evaluation
