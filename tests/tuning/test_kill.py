"""A run that is killed, and started again, ends with the bytes of one that was not."""

from __future__ import annotations

from pathlib import Path

import killing
import pytest

from circuits.tuning.training_log import TrainingLog

WORKER = Path(__file__).with_name("kill_worker.py")
MOMENTS = 3


def run(model_folder, out, kind):
    """The folder of the run that went through, and those of the runs that were killed."""
    killing.run(WORKER, model_folder("gpt2"), out, MOMENTS, kind, said=out / "said.txt")
    killed = sorted(out.glob("killed-*"))
    assert len(killed) == MOMENTS
    return out / "whole", killed


@pytest.mark.parametrize(
    ("kind", "weights"),
    [("full", "model.safetensors"), ("lora", "adapter_model.safetensors")],
)
@pytest.mark.exhaustive
def test_killed_at_any_moment(kind, weights, model_folder, tmp_path):
    whole, killed = run(model_folder, tmp_path, kind)
    assert sorted(path.name for path in whole.glob("step-*")) == ["step-3", "step-5"]
    assert (whole / "step-3" / weights).read_bytes() != (whole / "step-5" / weights).read_bytes()
    names = sorted(path.relative_to(whole) for path in whole.rglob("*"))
    for folder in killed:
        assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == names
        for step in ("step-3", "step-5"):
            assert (folder / step / weights).read_bytes() == (whole / step / weights).read_bytes()


@pytest.mark.exhaustive
def test_early_stopping_keeps_its_best_step_however_it_is_killed(model_folder, tmp_path):
    whole, killed = run(model_folder, tmp_path, "stopping")
    log = TrainingLog.load(whole / "training_log.json")
    losses = [entry.loss for entry in log.validation]
    best, last = losses.index(min(losses)), len(log.steps)
    assert log.stopped_early and 1 < best < last
    names = sorted(path.relative_to(whole) for path in whole.rglob("*"))
    steps = sorted(path.name for path in whole.glob("step-*"))
    assert steps == sorted([f"step-{best}", f"step-{last}"])
    for folder in killed:
        assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == names
        for step in steps:
            weights = Path(step) / "model.safetensors"
            assert (folder / weights).read_bytes() == (whole / weights).read_bytes()
