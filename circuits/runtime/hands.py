"""Who does the work: this process, or an engine's workers. Both give the same in the same order.

A batch is handed in and its result asked for later; the results of workers come while others are
waited for. Out of memory is a RuntimeError when the result is asked for, wherever it happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast, runtime_checkable

import torch

from circuits.errors import CircuitsError
from circuits.options.engine import RayEngine
from circuits.runtime.cluster.portable import Portable
from tasks.pairs import PairBatch

if TYPE_CHECKING:
    from circuits.runtime.cluster.pool import Piece, Pool
    from circuits.runtime.cluster.worker import Job


@runtime_checkable
class OnDevice(Protocol):
    """What batches must know of a model: a `circuits.models.HookedModel`, which stands above."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    @property
    def longrope_window(self) -> int | None:
        """Length from which a prompt shares no batch with shorter ones."""


Model = TypeVar("Model", bound=OnDevice)
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ticket(Generic[Result]):
    """A batch that was handed in. result: waits for what came of it."""

    batch: PairBatch
    result: Callable[[], Result]


@runtime_checkable
class Hands(Protocol[Result]):
    """Work on a model, to be done on batches. window: how many to hand in before asking."""

    window: int

    def give(self, batch: PairBatch) -> Ticket[Result]:
        """Hand a batch in."""

    def __enter__(self) -> Hands[Result]: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class InProcess(Generic[Result]):
    """One batch at a time, when its result is asked for."""

    window = 1

    def __init__(self, model: Model, work: Callable[[Model, PairBatch], Result]) -> None:
        self._device = model.device
        self._work: Callable[[PairBatch], Result] = lambda batch: work(model, batch)

    def give(self, batch: PairBatch) -> Ticket[Result]:
        """Keep a batch for later."""
        placed = batch.to(self._device)
        return Ticket(placed, lambda: self._work(placed))

    def __enter__(self) -> InProcess[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left behind."""


@dataclass(frozen=True)
class _OnModel(Generic[Model, Result]):
    """Work on a batch that stands on the CPU."""

    work: Callable[[Model, PairBatch], Result]

    def __call__(self, model: Model, batch: PairBatch) -> Result:
        return self.work(model, batch.to(model.device))


def hired(
    engine: RayEngine, model: Model, work: Callable[[Model, PairBatch], Result]
) -> Hands[Result]:
    """An engine's workers.

    Args:
        engine: settings; its workers are started if they are not there.
        model: what they are to load.
        work: what they are to do; it can be pickled.

    Returns:
        Them, for this work.

    Raises:
        CircuitsError: for a model that cannot be handed on, and where there is no worker.
    """
    from circuits.runtime.cluster.pool import pool_of

    if not isinstance(model, Portable):
        raise CircuitsError(f"engine: {type(model).__name__} cannot be given to workers")
    pool = pool_of(engine)
    return _Hired(pool, engine, pool.job(model.recipe(), _OnModel(work)))


def done_in_order(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    called: Callable[[Task], str],
    engine: RayEngine | None = None,
) -> Iterator[Result]:
    """Do whole tasks, one after the other, or by workers side by side.

    Args:
        work: is given a task; for an engine it can be pickled, and doing a task again does no harm.
        tasks: what is to be done.
        called: what messages call a task.
        engine: whose workers do it; None does it in this process.

    Yields:
        What `work` returned, in the order of the tasks.

    Raises:
        CircuitsError: where the engine has no worker, and where a task keeps killing its workers.
    """
    if engine is None or not tasks:
        yield from map(work, tasks)
        return
    from circuits.runtime.cluster.pool import pool_of

    pool = pool_of(engine)
    with _Hired[Result](pool, engine, pool.job(None, work)) as hands:
        for result in [hands.hand(task, called(task)) for task in tasks]:
            yield result()


class _Hired(Generic[Result]):
    """An engine's workers, for one job."""

    def __init__(self, pool: Pool, engine: RayEngine, job: Job) -> None:
        self._pool, self._engine, self._job = pool, engine, job
        self._pieces: list[Piece] = []

    @property
    def window(self) -> int:
        """Enough to keep all busy."""
        return self._pool.window

    def give(self, batch: PairBatch) -> Ticket[Result]:
        """Hand a batch in; who runs it is decided when a worker is free."""
        return Ticket(batch, self.hand(batch, batch.sources[0]))

    def hand(self, argument: object, what: str) -> Callable[[], Result]:
        """Hand in anything that the work takes; gives what waits for its result."""
        from circuits.runtime.cluster.packing import packed
        from circuits.runtime.cluster.pool import Piece

        piece = Piece(self._job, packed(argument), what)
        self._pieces.append(piece)
        self._pool.submit(piece)
        return partial(self._result, piece)

    def _result(self, piece: Piece) -> Result:
        outcome = self._pool.finish(piece)
        self._pieces.remove(piece)
        if outcome.kind == "memory":
            raise torch.OutOfMemoryError(outcome.text)
        if outcome.error is not None:
            raise outcome.error
        return cast(Result, outcome.value)

    def __enter__(self) -> _Hired[Result]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from circuits.runtime.cluster.pool import close_engine

        self._pool.abandon(self._pieces)
        if error is not None and not isinstance(error, Exception | GeneratorExit):
            close_engine(self._engine)  # Ctrl-C stops what runs, too
