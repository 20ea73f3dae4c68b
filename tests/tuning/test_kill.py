"""A run that is killed, and started again, ends with the bytes of one that was not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("kill_worker.py")


@pytest.mark.parametrize(
    ("kind", "weights", "moments"),
    [("full", "model.safetensors", 7), ("lora", "adapter_model.safetensors", 3)],
)
def test_killed_at_any_moment(kind, weights, moments, model_folder, tmp_path):
    command = [sys.executable, str(WORKER), str(model_folder("gpt2")), str(tmp_path)]
    done = subprocess.run([*command, str(moments), kind], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole"
    assert sorted(path.name for path in whole.glob("step-*")) == ["step-3", "step-5"]
    assert (whole / "step-3" / weights).read_bytes() != (whole / "step-5" / weights).read_bytes()
    killed = sorted(tmp_path.glob("killed-*"))
    assert len(killed) == moments
    names = sorted(path.relative_to(whole) for path in whole.rglob("*"))
    for folder in killed:
        assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == names
        for step in ("step-3", "step-5"):
            assert (folder / step / weights).read_bytes() == (whole / step / weights).read_bytes()
