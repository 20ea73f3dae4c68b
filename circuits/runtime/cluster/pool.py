"""Workers that are kept from one call to the next, and pieces of work handed to them.

A piece goes to the worker that has least to do, and has one outcome, which is fetched when it is
asked for: so the caller decides on the order. A worker that dies, with its node or alone, is
replaced, and what it had goes to the others, each piece alone with a worker: an answer may be lost
with the worker that had gone on to the next piece, so only a piece that was alone is surely guilty.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from circuits.errors import CircuitsError
from circuits.options.engine import RayEngine
from circuits.runtime.cluster.connection import Connection
from circuits.runtime.cluster.packing import packed, unpacked
from circuits.runtime.cluster.portable import Recipe
from circuits.runtime.cluster.worker import Job, Outcome, Worker

if TYPE_CHECKING:
    from ray import ObjectRef

_log = logging.getLogger(__name__)
AHEAD = 3  # pieces of each worker's that are handed out or waiting: what the driver holds at most
_QUEUED = 2  # pieces that a worker has, so that it never waits for the driver
_LOOK = 1.0  # seconds between two looks at a clock


@dataclass(eq=False)
class Piece:
    """A piece of work. what: names it in messages. tries: workers that died while they had it."""

    job: Job
    argument: bytes
    what: str
    tries: int = 0
    outcome: Outcome | None = None
    abandoned: bool = False


@dataclass(eq=False)
class _Hired:
    """A worker. starting: answered with its node when it is there. has: its pieces, in the order
    given.
    """

    actor: Any  # Ray makes its methods by their names
    starting: object
    node: str = ""
    has: dict[object, Piece] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return self.starting is None

    @property
    def suspects(self) -> bool:
        """Whether it has a piece that another worker died on."""
        return any(piece.tries for piece in self.has.values())


class Pool:
    """The workers of an engine."""

    def __init__(self, engine: RayEngine) -> None:
        self.engine = engine
        self.connection = Connection.to(engine)
        self.size = self.connection.workers
        self._ray = self.connection.ray
        self.workers: list[_Hired] = []
        self._waiting: deque[Piece] = deque()
        self._recipe: tuple[str, ObjectRef[bytes]] | None = None
        self._failed_starts = 0
        self._alone_since = time.monotonic()

    @property
    def window(self) -> int:
        """How many pieces are to be handed in before the first outcome is asked for."""
        return AHEAD * self.size

    def job(self, recipe: Recipe[object] | None, work: object) -> Job:
        """Work that workers can fetch, on a model or on none."""
        key = uuid.uuid4().hex
        put = self._ray.put
        if recipe is None:
            return Job(None, "the work", [], key, [put(packed(work))])
        if self._recipe is None or self._recipe[0] != recipe.key:
            self._recipe = (recipe.key, put(packed(recipe)))
        return Job(recipe.key, recipe.name, [self._recipe[1]], key, [put(packed(work))])

    def submit(self, piece: Piece) -> None:
        """Hand in a piece."""
        self._waiting.append(piece)
        self._hire()
        self._assign()

    def finish(self, piece: Piece) -> Outcome:
        """Wait for a piece's outcome."""
        while piece.outcome is None:
            self._step()
        return piece.outcome

    def abandon(self, pieces: list[Piece]) -> None:
        """Have no use for pieces any more; what runs of them runs to its end."""
        for piece in pieces:
            piece.abandoned = True
        self._waiting = deque(piece for piece in self._waiting if not piece.abandoned)

    def close(self) -> None:
        """Stop all workers, and leave the cluster."""
        if self._ray.is_initialized():
            for worker in self.workers:
                self._ray.kill(worker.actor)
        self.workers.clear()
        self._waiting.clear()
        self.connection.close()

    def _hire(self) -> None:
        """As many workers as there are to be."""
        engine = self.engine
        while len(self.workers) < self.size:
            actor = (
                self._ray.remote(Worker)
                .options(
                    num_cpus=engine.cpus_per_worker,
                    num_gpus=engine.gpus_per_worker,
                    max_restarts=0,
                )
                .remote(engine.cpus_per_worker, engine.device)
            )
            self.workers.append(_Hired(actor, actor.node.remote()))

    def _assign(self) -> None:
        """Give waiting pieces to the workers with least to do; a second one only while there are
        enough for all, so that the last ones are spread, and beside none that a worker died on.
        """
        while self._waiting:
            there = [worker for worker in self.workers if worker.ready]
            if not there:
                return
            worker = min(there, key=lambda candidate: (len(candidate.has), candidate.suspects))
            spare = len(self._waiting) > len(there)
            alone = worker.suspects or self._waiting[0].tries > 0
            if len(worker.has) >= (_QUEUED if spare and not alone else 1):
                return
            piece = self._waiting.popleft()
            worker.has[worker.actor.run.remote(piece.job, piece.argument)] = piece

    def _step(self) -> None:
        """Wait until something is done, and take note of it."""
        self._hire()
        self._assign()
        if any(worker.ready for worker in self.workers):
            # Now, and not at the last step: the pool may have rested since.
            self._alone_since = time.monotonic()
        refs = {ref: worker for worker in self.workers for ref in worker.has}
        refs |= {worker.starting: worker for worker in self.workers if not worker.ready}
        done, _ = self._ray.wait(list(refs), num_returns=1, timeout=_LOOK)
        for ref in done:
            self._take(refs[ref], ref)
        there = any(worker.ready for worker in self.workers)
        if not there and time.monotonic() - self._alone_since > self.engine.start_timeout:
            raise CircuitsError(
                f"engine: no worker could start in {self.engine.start_timeout:g} s; the cluster is "
                "full or out of nodes (`ray status` tells); what is done so far is kept"
            )

    def _take(self, worker: _Hired, ref: object) -> None:
        """An answer of a worker's, or the news of its death."""
        if worker not in self.workers:
            return
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(ref)
        except errors.RayTaskError as error:
            if worker.ready:
                raise
            self._failed(worker, error)
            return
        except errors.RayError as error:
            if worker.ready:
                self._lost(worker, error)
            else:
                self._failed(worker, error)
            return
        if not worker.ready:
            worker.starting, worker.node = None, answer
            self._failed_starts = 0
            return
        self._answered(worker, ref, answer)

    def _answered(self, worker: _Hired, ref: object, answer: bytes) -> None:
        """What came of a piece is kept, if anything still waits for it."""
        piece = worker.has.pop(ref)
        if not piece.abandoned:
            outcome = unpacked(answer)
            assert isinstance(outcome, Outcome)
            piece.outcome = outcome
            if outcome.kind == "load":
                raise CircuitsError(
                    f"engine: a worker on {worker.node} could not load {piece.job.name}: "
                    f"{outcome.text}"
                )

    def _lost(self, worker: _Hired, error: Exception) -> None:
        """A worker is gone: what it had is for others, but for what it answered before."""
        self.workers.remove(worker)
        done, _ = self._ray.wait(list(worker.has), num_returns=len(worker.has), timeout=0)
        for ref in done:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._answered(worker, ref, self._ray.get(ref))
        pieces = [piece for piece in worker.has.values() if not piece.abandoned]
        _log.warning(
            "a worker on %s is gone (%s); its work goes to others", worker.node, _sentence(error)
        )
        for piece in pieces:
            piece.tries += 1
        if guilty := [piece for piece in pieces if piece.tries > self.engine.retries]:
            deaths = guilty[0].tries
            raise CircuitsError(
                f"{' or '.join(piece.what for piece in guilty)}: "
                f"{'a worker' if deaths == 1 else f'{deaths} workers'} died on it"
                f"{'' if deaths == 1 else ', one after the other'} "
                f"({_sentence(error)}); where they lack memory, take a smaller batch size, "
                "fewer workers on a machine or dtype bfloat16; what is done so far is kept"
            )
        self._waiting.extendleft(reversed(pieces))

    def _failed(self, worker: _Hired, error: Exception) -> None:
        """A worker did not come up."""
        self.workers.remove(worker)
        self._failed_starts += 1
        if self._failed_starts <= self.engine.retries:
            return
        line = f"engine: workers cannot start ({_sentence(error)})"
        if not any(other.ready for other in self.workers):
            raise CircuitsError(f"{line}; is this package installed on every machine?")
        self.size = len(self.workers)
        _log.warning("%s; going on with %d", line, self.size)


def _sentence(error: Exception) -> str:
    """The last line of an error of Ray's that says something, or its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


_pools: dict[RayEngine, Pool] = {}


def pool_of(engine: RayEngine) -> Pool:
    """The engine's workers, which are started the first time; other engines' are stopped.

    Args:
        engine: settings.

    Returns:
        The pool.

    Raises:
        CircuitsError: where there is no cluster, or no room on it.
    """
    if engine not in _pools:
        for other in list(_pools):
            close_engine(other)
        _pools[engine] = Pool(engine)
    return _pools[engine]


def close_engine(engine: RayEngine) -> None:
    """Stop an engine's workers.

    Args:
        engine: settings; nothing happens where none of its workers were started.
    """
    pool = _pools.pop(engine, None)
    if pool is not None:
        pool.close()


@atexit.register
def _close_all() -> None:
    for engine in list(_pools):
        close_engine(engine)
