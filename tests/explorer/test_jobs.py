"""The worker: the most urgent first, windows in turn, and nothing more of what is cancelled."""

from __future__ import annotations

import threading

import pytest

from circuits.errors import CircuitsError
from circuits.explorer.live.jobs import BACKGROUND, CLICK, WORK, Job, Worker


class Gated:
    """A worker that is held until all jobs are in the queue, and a record of what it did."""

    def __init__(self):
        self.worker = Worker(most=3)
        self.record, self.told = [], []
        self.open, self.held, self.over = threading.Event(), threading.Event(), threading.Event()
        self.worker.give(Job(self, CLICK, self._hold(), lambda *_: None))
        assert self.held.wait(10)

    def _hold(self):
        self.held.set()
        self.open.wait(10)
        yield {}
        return {}

    def steps(self, name, n, fails=None):
        try:
            for step in range(n):
                self.record.append(f"{name}{step}")
                yield {"step": step}
            if fails is not None:
                raise fails
        finally:
            self.record.append(f"{name} closed")
        return {"name": name}

    def give(self, name, urgency, n=2, window=None, fails=None):
        window = name if window is None else window
        told = lambda what, content: self.told.append((name, what, content))  # noqa: E731
        return self.worker.give(Job(window, urgency, self.steps(name, n, fails), told))

    def finish(self):
        def last():
            yield {}
            return {}

        self.worker.give(Job("last", BACKGROUND + 1, last(), lambda what, _: self.over.set()))
        self.open.set()
        assert self.over.wait(10)
        self.worker.stop()
        return [one for one in self.record if "closed" not in one]


def test_clicks_come_first_and_windows_take_turns():
    gated = Gated()
    gated.give("a", WORK)
    gated.give("b", BACKGROUND)
    gated.give("c", WORK)
    gated.give("d", CLICK)
    assert gated.finish() == ["d0", "d1", "a0", "c0", "a1", "c1", "b0", "b1"]
    assert ("a", "done", {"name": "a"}) in gated.told
    assert ("a", "step", {"step": 1}) in gated.told


def test_what_is_cancelled_is_closed_and_silent_and_a_window_leaves_alone():
    gated = Gated()
    job = gated.give("a", WORK)
    gated.give("b", WORK, window="gone")
    gated.give("c", WORK)
    gated.worker.cancel(job)
    gated.worker.leave("gone")
    assert gated.finish() == ["c0", "c1"]
    assert {name for name, *_ in gated.told} == {"c"}


def test_an_error_is_told_and_the_others_go_on(caplog):
    gated = Gated()
    gated.give("a", CLICK, fails=CircuitsError("no such edge"))
    gated.give("b", CLICK, fails=ZeroDivisionError("oh"))
    gated.give("c", WORK)
    assert gated.finish()[-2:] == ["c0", "c1"]
    assert ("a", "error", {"said": "no such edge"}) in gated.told
    assert ("b", "error", {"said": "ZeroDivisionError: oh"}) in gated.told


def test_a_window_may_not_fill_the_queue():
    gated = Gated()
    for name in "abc":
        gated.give(name, WORK, window="greedy")
    with pytest.raises(CircuitsError, match="3 requests"):
        gated.give("d", WORK, window="greedy")
    gated.give("e", WORK)
    assert "e1" in gated.finish()
