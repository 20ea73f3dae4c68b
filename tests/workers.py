"""The explorer's worker, held and waited for."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

from circuits.explorer.live.jobs import CLICK, Job


@contextmanager
def held(worker):
    """Within, it does nothing of what it is asked for: a model that is slow."""
    opened, reached = threading.Event(), threading.Event()

    def wait():
        reached.set()
        assert opened.wait(60)
        yield {}
        return {}

    worker.give(Job("who holds it", CLICK, wait(), lambda *_: None))
    assert reached.wait(60)
    try:
        yield
    finally:
        opened.set()


def arrived(worker, n):
    """Wait until so many jobs are behind the one that holds it."""
    _wait(lambda: worker.waiting > n)


def settle(worker):
    """Wait until it has nothing left to do."""
    _wait(lambda: not worker.waiting)


def _wait(there):
    for _ in range(1000):
        if there():
            return
        time.sleep(0.02)
    raise AssertionError("not in 20 s")
