"""Two processes on CPUs, as `accelerate launch` starts them, train as one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from killing import ENVIRONMENT
from safetensors.torch import load_file

from circuits.tuning.training_log import TrainingLog

WORKER = Path(__file__).with_name("launch_worker.py")


def launch(model_folder, out, processes, **environment):
    """The exit status of a launch, and what it said."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu"]
    command += ["--num_processes", str(processes), "--num_machines", "1", "--dynamo_backend", "no"]
    command += ["--mixed_precision", "no", "--main_process_port", "0"]
    here = {**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [*command, str(WORKER), str(model_folder("gpt2")), str(out)],
        capture_output=True,
        text=True,
        env=here,
    )
    return done.returncode, done.stderr


@pytest.mark.exhaustive
def test_two_processes_train_as_one(model_folder, tmp_path):
    for name, processes in (("one", 1), ("two", 2)):
        status, said = launch(model_folder, tmp_path / name, processes)
        assert status == 0, said
    one, two = (TrainingLog.load(tmp_path / name / "training_log.json") for name in ("one", "two"))
    assert len(one.steps) == 7 and one.steps[0].loss > one.steps[-1].loss + 0.1
    for first, second in ((one.steps, two.steps), (one.validation, two.validation)):
        assert [entry.loss for entry in second] == pytest.approx(
            [entry.loss for entry in first], rel=1e-4
        )
        assert [entry.token_accuracy for entry in second] == pytest.approx(
            [entry.token_accuracy for entry in first]
        )
    files = [tmp_path / name / "step-3" / "model.safetensors" for name in ("one", "two")]
    expected, found = (load_file(file) for file in files)
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, atol=1e-3 * float(tensor.abs().max())), name

    status, _ = launch(model_folder, tmp_path / "killed", 2, STOP_AT="6")
    assert status != 0
    assert list((tmp_path / "killed").glob("state-4/checkpoint-4/optimizer.pt"))
    status, said = launch(model_folder, tmp_path / "killed", 2)
    assert status == 0, said
    for step in ("step-3", "step-7"):
        weights = Path(step, "model.safetensors")
        killed, whole = tmp_path / "killed" / weights, tmp_path / "two" / weights
        assert killed.read_bytes() == whole.read_bytes()
    names = [sorted(path.name for path in (tmp_path / out).iterdir()) for out in ("two", "killed")]
    assert names[0] == names[1]
