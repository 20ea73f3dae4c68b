"""Scripts as processes of their own, and forked children in them that count what they do and die
(SIGKILL) at a chosen moment.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

_TESTS = Path(__file__).parent  # behind what it is in: tests/tasks is no package of tasks
_PLACES = [*map(str, (_TESTS.parent, _TESTS)), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(_PLACES)}
"""In which a script finds this file."""

_SERVER = multiprocessing.get_context("forkserver")
# Importing them takes ten seconds: one process does it once, and scripts are forks of it.
_SERVER.set_forkserver_preload(
    [
        *("transformers.trainer", "peft", "rouge_score.rouge_scorer", "killing"),
        *("circuits.cli.app", "circuits.pipeline.stages", "circuits.tuning.finetune"),
        *("circuits.attribution.attribute", "circuits.comparison.compare", "circuits.report"),
    ]
)


def start(
    script: Path, *arguments: object, said: Path = Path(os.devnull), **environment: str
) -> ForkServerProcess:
    """A script started in a process of its own; what it says goes to a file."""
    words = [str(script), *map(str, arguments)]
    with mock.patch.dict(os.environ, {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}):
        process = _SERVER.Process(target=_run, args=(words, said, environment))
        process.start()
    return process


def run(script: Path, *arguments: object, said: Path) -> None:
    """Run a script in a process of its own, which has to end well."""
    process = start(script, *arguments, said=said)
    process.join(timeout=900)
    assert process.exitcode == 0, said.read_text()


def _run(words: list[str], said: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with said.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    runpy.run_path(words[0], run_name="__main__")


class Moments:
    """Calls counted from now on; number `kill_at` is the process's last moment."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at, self.seen = kill_at, 0

    def watch(self, owner: Any, name: str) -> None:
        """Count calls of a function of a module or class."""
        original = getattr(owner, name)

        def call(*args, **kwargs):
            self.seen += 1
            if self.seen == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(owner, name, call)


def in_child(work: Callable[[], None]) -> int:
    """Exit status of a child that does the work: 3 if it raised, minus the signal if killed."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            import torch

            # Threads that load a model side by side would each make the lost thread pool again.
            torch.set_num_threads(torch.get_num_threads())
            work()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
