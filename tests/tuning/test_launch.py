"""Two processes on CPUs, as `accelerate launch` starts them, train as one does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import killing
import pytest
import torch
from killing import ENVIRONMENT
from safetensors.torch import load_file

from circuits.tuning.training_log import TrainingLog

WORKER = Path(__file__).with_name("launch_worker.py")


def launch(model_folder, out):
    """In two processes, as a user starts them."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu"]
    command += ["--num_processes", "2", "--num_machines", "1", "--dynamo_backend", "no"]
    command += ["--mixed_precision", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [*command, str(WORKER), str(model_folder("gpt2")), str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


def forks(model_folder, out, n, **environment):
    """Exit statuses of as many processes, each told its place as a launcher would tell it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    places = [
        {"WORLD_SIZE": str(n), "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(n)
    ]
    started = [
        killing.start(
            *(WORKER, model_folder("gpt2"), out),
            said=out.with_name(f"said-{rank}.txt"),
            **(environment if n == 1 else {**environment, **shared, **place}),
        )
        for rank, place in enumerate(places)
    ]
    for process in started:
        process.join(timeout=300)
    return [process.exitcode for process in started]


@pytest.mark.exhaustive
def test_two_processes_train_as_one(model_folder, tmp_path):
    assert forks(model_folder, tmp_path / "one", 1) == [0]
    launch(model_folder, tmp_path / "two")
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

    # The launcher's own bytes differ a little from those of forks: forks with forks.
    assert forks(model_folder, tmp_path / "forked", 2) == [0, 0]
    assert forks(model_folder, tmp_path / "killed", 2, STOP_AT="6") == [9, 9]
    assert list((tmp_path / "killed").glob("state-4/checkpoint-4/optimizer.pt"))
    assert forks(model_folder, tmp_path / "killed", 2) == [0, 0]
    for step in ("step-3", "step-7"):
        weights = Path(step, "model.safetensors")
        killed, whole = tmp_path / "killed" / weights, tmp_path / "forked" / weights
        assert killed.read_bytes() == whole.read_bytes()
    names = [
        sorted(path.name for path in (tmp_path / out).iterdir())
        for out in ("two", "forked", "killed")
    ]
    assert names[0] == names[1] == names[2]
