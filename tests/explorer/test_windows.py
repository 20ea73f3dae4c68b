"""What windows share, and what is left of one that is closed."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from circuits.errors import CircuitsError
from circuits.explorer.live.backends import backend_of
from circuits.explorer.live.desk import Desk
from circuits.explorer.live.messages import PatchEdge, TaskPrompts
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

    def ask(self, kind, **fields):
        self.number += 1
        self.desk.ask(kind(id=self.number, **fields))
        with self.over:
            assert self.over.wait_for(lambda: self.number in self.ends, 30)
        what, content = self.ends[self.number]
        assert what == "done", content
        return content


@pytest.fixture
def backend(hooked, random_pairs):
    made = backend_of(model=hooked("llama"), pairs=random_pairs(n=3))
    yield made
    made.worker.stop()


def take(window, index):
    return window.ask(TaskPrompts, do="task_prompts", index=index)


def test_windows_at_one_pair_share_its_runs_until_the_last_has_gone(backend):
    first, second, third = (Opened(backend) for _ in range(3))
    mine, theirs, others = take(first, 0), take(second, 0), take(third, 1)
    assert first.desk.pair is second.desk.pair is not third.desk.pair
    assert mine == theirs and mine["ends"] != others["ends"]
    edge = {"do": "edge", "edge": "m1->logits", "direction": "noise"}
    value = first.ask(PatchEdge, **edge)["value"]
    assert value == second.ask(PatchEdge, **edge)["value"] != third.ask(PatchEdge, **edge)["value"]
    kept = weakref.ref(first.desk.pair)
    take(first, 2)
    assert kept() is second.desk.pair
    assert second.ask(PatchEdge, **edge)["value"] == value
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
