"""A driver that is killed or interrupted leaves no process; its work goes on to the same bytes."""

import os
import pickle
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import torch

from circuits.attribution import attribute
from circuits.options.run import RunOptions
from circuits.runtime.resume import NAME, PartialResults

pytestmark = [pytest.mark.exhaustive, pytest.mark.ray]

PAIRS, KEPT = 12, 5
MARK = "CIRCUITS_TEST_MARK"
PATIENCE = 300  # seconds, on a crowded machine


@pytest.fixture(scope="module")
def here(hooked, random_pairs):
    """The scores of a process that nobody stopped."""
    return attribute(hooked("gpt2"), random_pairs(n=PAIRS), "eap-ig", options=RunOptions(1))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_driver_leaves_its_work_and_no_process(
    how, here, model_folder, hooked, random_pairs, tmp_path
):
    pairs, mark = random_pairs(n=PAIRS), uuid.uuid4().hex
    (tmp_path / "pairs").write_bytes(pickle.dumps(pairs))
    driver = subprocess.Popen(
        [
            *(sys.executable, Path(__file__).with_name("driver.py")),
            *(model_folder("gpt2"), tmp_path / "pairs", tmp_path / NAME, str(KEPT)),
        ],
        env={**os.environ, MARK: mark, "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"},
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: (tmp_path / "waits").exists() or driver.poll() is not None)
    assert driver.poll() is None, driver.stderr.read().decode()[-2000:]
    assert len(marked(mark)) > 3  # Ray's and the workers
    os.killpg(driver.pid, how)  # as a terminal does it to Ctrl-C
    driver.wait(timeout=PATIENCE)
    driver.stderr.close()
    wait_until(lambda: not marked(mark))

    with Counting(tmp_path / NAME) as resume:
        there = attribute(hooked("gpt2"), pairs, "eap-ig", options=RunOptions(1), resume=resume)
    assert resume.taken == PAIRS - KEPT
    assert bool(here.matrix.any())
    assert torch.equal(there.matrix, here.matrix)
    assert torch.equal(there.per_example, here.per_example)


class Counting(PartialResults):
    """Counts the examples that were not there yet."""

    taken = 0

    def keep(self, index):
        super().keep(index)
        self.taken += len(index)


def marked(mark):
    """Processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
        except OSError:  # it is gone, or another user's
            continue
    return found


def wait_until(holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
