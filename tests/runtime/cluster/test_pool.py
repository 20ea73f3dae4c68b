"""Which piece a worker died on, with workers that answer and die where the test says."""

from types import SimpleNamespace

import pytest

from circuits.errors import CircuitsError
from circuits.options.engine import RayEngine
from circuits.runtime.cluster.connection import Connection
from circuits.runtime.cluster.packing import packed
from circuits.runtime.cluster.pool import Piece, Pool
from circuits.runtime.cluster.worker import Job, Outcome

pytest.importorskip("ray")


class DeathError(Exception):
    """What Ray raises of an actor that is gone."""


class FailedTaskError(DeathError):
    """What Ray raises of a task that failed in a living worker."""


class Actor:
    """A worker: `queue` is what it was given, in order."""

    def __init__(self):
        self.alive, self.queue = True, []
        self.node = SimpleNamespace(remote=lambda: "started")
        self.run = SimpleNamespace(remote=self._given)

    def _given(self, _, argument):
        ref = (self, len(self.queue), argument)
        self.queue.append(ref)
        return ref


class Cluster:
    """As much of Ray as a pool uses.

    loses: an answer is lost where the worker dies on the piece after it, as the worker goes on
    before its answer is out; else it arrives.
    """

    exceptions = SimpleNamespace(RayError=DeathError, RayTaskError=FailedTaskError)

    def __init__(self, deadly, loses):
        self.deadly, self.loses = deadly, loses
        self.runs = []  # the pieces whose answers were fetched

    def remote(self, _):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: Actor()))

    def put(self, data):
        return data

    def wait(self, refs, num_returns, timeout):
        return refs[-num_returns:], []  # the last one given first: answers come in any order

    def get(self, ref):
        if ref == "started":
            return "here"
        actor, index, argument = ref
        at = [given[2] in self.deadly for given in actor.queue]
        dies = at.index(True) if any(at) else len(at) + 1
        if index >= dies or (self.loses and index == dies - 1):
            raise DeathError("the actor is gone")
        self.runs.append(argument)
        return packed(Outcome("done", argument))


def pool_of(cluster, monkeypatch, **settings):
    made = SimpleNamespace(ray=cluster, workers=2, close=lambda: None)
    monkeypatch.setattr(Connection, "to", lambda _: made)
    return Pool(RayEngine(workers=2, **settings))


def outcomes(pool, n):
    job = Job(None, "the work", [], "key", [])
    pieces = [Piece(job, bytes([index]), f"pair {index}") for index in range(n)]
    for piece in pieces:
        pool.submit(piece)
    return [pool.finish(piece).value for piece in pieces]


@pytest.mark.parametrize("loses", [False, True])
@pytest.mark.parametrize("retries", [1, 3])
@pytest.mark.parametrize("deadly", range(6))
def test_the_piece_that_workers_die_on_is_named_and_none_beside_it(
    deadly, retries, loses, monkeypatch
):
    pool = pool_of(Cluster([bytes([deadly])], loses), monkeypatch, retries=retries)
    with pytest.raises(CircuitsError, match=f"^pair {deadly}: {retries + 1} workers died on it"):
        outcomes(pool, 6)


def test_without_a_second_try_all_that_may_be_to_blame_are_named(monkeypatch):
    pool = pool_of(Cluster([b"\x02"], loses=True), monkeypatch, retries=0)
    with pytest.raises(CircuitsError, match=r"^pair 2 or pair 3: a worker died on it"):
        outcomes(pool, 6)


@pytest.mark.parametrize("deadly", range(1, 6))
def test_answers_that_came_before_a_death_are_not_worked_out_again(deadly, monkeypatch):
    cluster = Cluster([bytes([deadly])], loses=False)
    pool = pool_of(cluster, monkeypatch, retries=3)
    with pytest.raises(CircuitsError, match=f"^pair {deadly}:"):
        outcomes(pool, 6)
    assert len(set(cluster.runs)) == len(cluster.runs) > 0


def test_a_worker_that_dies_after_a_rest_of_the_pool_is_replaced(monkeypatch):
    """The time without a worker begins with its death, and not with the call before."""
    clock = [0.0]
    monkeypatch.setattr(
        "circuits.runtime.cluster.pool.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    pool = pool_of(Cluster([b"\x01"], loses=False), monkeypatch, retries=1)
    pool.size = 1
    assert outcomes(pool, 1) == [b"\x00"]
    clock[0] = 2 * pool.engine.start_timeout
    piece = Piece(Job(None, "the work", [], "key", []), b"\x01", "pair 1")
    pool.submit(piece)
    with pytest.raises(CircuitsError, match=r"^pair 1: 2 workers died on it"):
        pool.finish(piece)
