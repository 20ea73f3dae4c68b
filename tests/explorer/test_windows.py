"""What windows share, and what is left of one that is closed."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from oracles.reachable_tensors import reachable_bytes
from workers import held, settle

from circuits.errors import CircuitsError
from circuits.explorer.live.backends import backend_of
from circuits.explorer.live.desk import Desk
from circuits.explorer.live.messages import PatchEdge, Prompts, Sweep, TaskPrompts
from circuits.explorer.live.pair import LivePair
from circuits.options.patching import PatchSpec


class Opened:
    """A window, and the ends of its requests."""

    def __init__(self, backend):
        self.ends, self.over, self.number = {}, threading.Condition(), 0
        ends, over = self.ends, self.over

        def told(number, what, content):
            if what != "step":
                with over:
                    ends[number] = what, content
                    over.notify()

        self.desk = Desk(backend, told)

    def send(self, kind, **fields):
        self.number += 1
        self.desk.ask(kind(id=self.number, **fields))
        return self.number

    def end(self, number):
        with self.over:
            assert self.over.wait_for(lambda: number in self.ends, 30)
        return self.ends[number]

    def ask(self, kind, **fields):
        what, content = self.end(self.send(kind, **fields))
        assert what == "done", content
        return content


@pytest.fixture
def backend(hooked, random_pairs):
    made = backend_of(model=hooked("llama"), pairs=random_pairs(n=3))
    yield made
    made.worker.stop()


EDGE = {"do": "edge", "edge": "m1->logits", "direction": "noise"}
TYPED = {"clean": " the capital of France is", "corrupted": " the capital of Italy is"}


def take(window, index):
    return window.ask(TaskPrompts, do="task_prompts", index=index)


def edge(window, **fields):
    return window.ask(PatchEdge, **EDGE, **fields)["value"]


def test_windows_at_one_pair_share_its_runs_until_the_last_has_gone(backend):
    first, second, third = (Opened(backend) for _ in range(3))
    mine, theirs, others = take(first, 0), take(second, 0), take(third, 1)
    assert first.desk.pair is second.desk.pair is not third.desk.pair
    assert mine == theirs and mine["ends"] != others["ends"]
    value = edge(first)
    assert value == edge(second) != edge(third)
    kept = weakref.ref(first.desk.pair)
    take(first, 2)
    assert kept() is second.desk.pair
    assert edge(second) == value
    gc.disable()  # what is left goes at once, not when the collector comes by
    try:
        second.desk.leave()
        del second
        backend.worker.stop()
        assert kept() is None
    finally:
        gc.enable()


def test_a_request_that_is_over_is_not_kept(backend):
    """However quickly the worker is done with it."""
    window = Opened(backend)
    for index in range(20):
        take(window, index)
    assert window.desk._jobs == {}
    backend.worker.most = 0
    with pytest.raises(CircuitsError, match="0 requests"):
        take(window, 0)
    assert window.desk._jobs == {}


def test_a_pair_is_made_ready_in_few_passes_and_a_click_costs_one(hooked, random_pairs):
    """Both runs whole, and whether they can be gone on from; both without what prompts share."""
    model, pairs = hooked("llama"), random_pairs(n=1)
    passes = []
    handle = model.hf.base_model.register_forward_hook(lambda *_: passes.append(1))
    try:
        pair = LivePair(model, pairs)
        for _ in pair.prepare():
            pass
        assert len(passes) <= 6
        for site in ("resid_pre", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v"):
            for direction in ("noise", "denoise"):
                passes.clear()
                pair.site(PatchSpec(site, direction, layers=(1,)))
                assert len(passes) == 1, site
        for direction in ("noise", "denoise"):
            passes.clear()
            pair.edge("a0.h1->m1", direction)
            assert len(passes) == 1
    finally:
        handle.remove()


def test_a_pair_of_an_encoder_decoder_is_made_ready(hooked, random_pairs):
    model = hooked("t5")
    pair = LivePair(model, random_pairs(n=1))
    assert sum(1 for _ in pair.prepare()) == 4
    assert pair.edge("m0->logits", "noise").value != pair.ends[0]


@pytest.mark.parametrize("name", ["llama", "gemma2", "t5", "bart"])
def test_a_pair_knows_what_it_keeps(name, hooked, random_pairs):
    """Against all tensors that references lead to; and nothing is left once it lets go."""
    model = hooked(name)
    pair = LivePair(model, random_pairs(n=1))
    for _ in pair.prepare():
        pass
    value = pair.edge("m0->logits", "noise").value
    pair.edge("m0->logits", "denoise")
    if not model.layout.n_encoder_layers:
        pair.weigh()
        before = pair.n_bytes
        pair.node("a1.h0")
        pair.site(PatchSpec("resid_mid" if name == "llama" else "z", "noise", layers=(1,)))
        pair.weigh()
        assert pair.n_bytes > before
    pair.weigh()
    assert pair.n_bytes == reachable_bytes(pair, model) > 0
    pair.release()
    assert pair.n_bytes == 0 == reachable_bytes(pair, model)
    assert pair.edge("m0->logits", "noise").value == value != pair.ends[0]


def test_pairs_not_asked_for_longest_let_go_first_and_the_one_in_use_never(backend):
    windows = [Opened(backend) for _ in range(3)]
    for index, window in enumerate(windows):
        take(window, index)
    values = [edge(window) for window in windows]
    assert len(set(values)) == 3
    settle(backend.worker)
    pairs = [window.desk.pair for window in windows]
    sizes = [pair.n_bytes for pair in pairs]
    assert all(sizes)
    edge(windows[0])
    backend.open_pairs.most = sum(sizes) - 1
    edge(windows[0])
    assert [pair.n_bytes > 0 for pair in pairs] == [True, False, True]
    backend.open_pairs.most = 0
    assert edge(windows[1]) == values[1]
    assert [pair.n_bytes > 0 for pair in pairs] == [False, True, False]
    assert [edge(window) for window in windows] == values


def test_a_sweep_in_progress_keeps_its_pair(backend):
    """A click elsewhere between two of its steps, with no room for a second pair."""
    first, second = Opened(backend), Opened(backend)
    take(first, 0), take(second, 1)
    whole = first.ask(Sweep, do="sweep", site="resid_pre", direction="denoise", by="position")
    settle(backend.worker)
    backend.open_pairs.most = 0
    sweep = first.desk._sweep(
        Sweep(id=0, do="sweep", site="resid_pre", direction="denoise", by="position"), None
    )
    next(sweep)
    runs = first.desk.pair.runs
    edge(second)
    assert first.desk.pair.__dict__["runs"] is runs and second.desk.pair.n_bytes > 0
    with pytest.raises(StopIteration) as ended:
        while True:
            next(sweep)
    assert ended.value.value == whole
    edge(second)
    assert first.desk.pair.n_bytes == 0


def test_what_is_asked_about_a_pair_is_answered_about_that_pair(backend):
    """Whatever the window takes between the question and the answer."""
    window = Opened(backend)
    mine = take(window, 0)["pair_id"]
    value = edge(window)
    with held(backend.worker):
        taken = window.send(TaskPrompts, do="task_prompts", index=1)
        clicks = [window.send(PatchEdge, pair_id=mine, **EDGE), window.send(PatchEdge, **EDGE)]
    assert window.end(taken)[1]["pair_id"] == taken
    named, at_that_time = (window.end(number)[1]["value"] for number in clicks)
    assert named == value
    assert at_that_time == edge(window) != value
    with pytest.raises(CircuitsError, match="another pair"):
        edge(window, pair_id=mine)
    assert edge(window, pair_id=taken) == edge(window)


def test_of_two_pairs_asked_for_at_once_the_last_stays(backend):
    """Typed prompts take a step more than a task's: they are ready behind those asked for later."""
    window = Opened(backend)
    with held(backend.worker):
        typed = window.send(Prompts, do="prompts", **TYPED)
        of_task = window.send(TaskPrompts, do="task_prompts", index=1)
    assert window.end(of_task)[0] == "done"
    what, content = window.end(typed)
    assert what == "error" and "asked for after" in content["said"]
    value = edge(window)
    assert value == edge(window, pair_id=of_task)
    with held(backend.worker):
        of_task = window.send(TaskPrompts, do="task_prompts", index=1)
        typed = window.send(Prompts, do="prompts", **TYPED)
    assert [window.end(number)[0] for number in (of_task, typed)] == ["done", "done"]
    assert edge(window, pair_id=typed) == edge(window) != value


def test_what_makes_pairs_ready_that_were_left_does_not_fill_the_queue(backend):
    """Where clicks of others always come first, it would wait until the window may ask no more."""
    window = Opened(backend)
    with held(backend.worker):
        for index in range(backend.worker.most - 2):
            last = window.send(TaskPrompts, do="task_prompts", index=index)
    assert window.end(last)[0] == "done"
    settle(backend.worker)
    assert window.desk._preparing is None and window.desk.pair.n_bytes > 0
