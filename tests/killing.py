"""Forked children that count what they do, and die (SIGKILL) at a chosen moment.

For scripts that tests run as processes of their own, in `ENVIRONMENT`, so that they find this file.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parent  # behind what it is in: tests/tasks is no package of tasks
_PLACES = [*map(str, (_TESTS.parent, _TESTS)), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(_PLACES)}


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
            work()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
