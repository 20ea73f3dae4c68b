"""One worker for the model: what all windows ask for, in steps, the most urgent first.

A job is a generator that does a piece of work between two yields. Between the pieces the worker
takes the most urgent job, and of equally urgent ones of several windows each in turn: a click is
answered in the middle of a sweep, and no window waits for all that another asked for. A job that is
cancelled is closed at its next step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count

from circuits.errors import CircuitsError

_log = logging.getLogger(__name__)

Steps = Generator[dict[str, object], None, dict[str, object]]
"""Yields what is known so far, returns the answer."""
Told = Callable[[str, dict[str, object]], None]
"""Is told "step" with what is known so far, then "done" or "error"."""

CLICK, WORK, BACKGROUND = range(3)
"""How urgent: a click, what shows its progress, what goes on behind it."""


@dataclass
class Job:
    """One piece of work.

    window: who asked. urgency: CLICK, WORK or BACKGROUND. steps: the work. told: the window.
    turn: when it is next, among equally urgent ones.
    """

    window: object
    urgency: int
    steps: Steps
    told: Told
    turn: int = 0
    cancelled: bool = field(default=False)


class Worker:
    """The thread that runs jobs.

    Attributes:
        most: jobs of one window that may wait; one more is refused.
    """

    def __init__(self, most: int = 16) -> None:
        self.most = most
        self._jobs: list[Job] = []
        self._turns = count()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="explorer", daemon=True)
        self._thread.start()

    def give(self, job: Job) -> Job:
        """Put a job into the queue.

        Raises:
            CircuitsError: where the window has too many waiting.
        """
        with self._changed:
            mine = [queued for queued in self._jobs if queued.window is job.window]
            if sum(not queued.cancelled for queued in mine) >= self.most:
                raise CircuitsError(
                    f"{self.most} requests of this window are waiting; cancel some, or wait"
                )
            job.turn = next(self._turns)
            self._jobs.append(job)
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Stop a job at its next step; it is told nothing more."""
        with self._changed:
            job.cancelled = True
            self._changed.notify()

    def leave(self, window: object) -> None:
        """Stop all that a window asked for."""
        with self._changed:
            for job in self._jobs:
                job.cancelled = job.cancelled or job.window is window
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """Jobs that are not finished."""
        with self._changed:
            return len(self._jobs)

    def stop(self) -> None:
        """End the thread behind its present step."""
        with self._changed:
            self._stopping = True
            for job in self._jobs:
                job.cancelled = True
            self._changed.notify()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._stopping:
                    self._changed.wait()
                if self._stopping and not self._jobs:
                    return
                job = min(
                    self._jobs,
                    key=lambda queued: (not queued.cancelled, queued.urgency, queued.turn),
                )
            finished = self._step(job)
            with self._changed:
                if finished:
                    self._jobs.remove(job)
                else:
                    job.turn = next(self._turns)
            del job  # or a window that is closed would be held until the next one asks

    def _step(self, job: Job) -> bool:
        """Do one step of a job; whether it is over."""
        if job.cancelled:
            job.steps.close()
            return True
        try:
            so_far = next(job.steps)
        except StopIteration as ended:
            self._tell(job, "done", ended.value)
            return True
        except CircuitsError as error:
            self._tell(job, "error", {"said": str(error)})
            return True
        except Exception as error:  # a window must learn of it, and the others go on
            _log.exception("a request of the explorer failed")
            message = f"{type(error).__name__}: {error}"
            self._tell(job, "error", {"said": message[:500]})
            return True
        self._tell(job, "step", so_far)
        return False

    def _tell(self, job: Job, what: str, content: dict[str, object]) -> None:
        if not job.cancelled:
            job.told(what, content)
