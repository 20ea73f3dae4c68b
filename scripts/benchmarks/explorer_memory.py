"""Whether the explorer's memory stays flat over thousands of clicks, and what it consists of.

    python scripts/benchmarks/explorer_memory.py --clicks 15360

Windows click in this process, without a server: each takes a pair of the task, patches 12 edges and
places drawn at random, and takes the next pair. Printed every so many clicks: resident memory; what
malloc has given out and what it holds free on its heap (glibc's `mallinfo2`); blocks and objects of
Python. With 20 windows at 32 pairs, 7,680 clicks are one round: behind each the windows stand at
the pairs at which they stood before, so that what is given out can be compared.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import sys
import threading
import time

import torch
from explorer_load import CLICKS_A_PAIR, memory_mib, random_click

import tasks
from circuits import HookedModel
from circuits.explorer.contents import Json
from circuits.explorer.live import messages
from circuits.explorer.live.backends import backend_of
from circuits.explorer.live.desk import Backend, Desk

MIB = 2**20
_NAMES = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
    "keepcost",
)  # fmt: skip


class _MallocInfo(ctypes.Structure):
    """Of glibc; uordblks: bytes given out, fordblks: bytes that are free."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _NAMES)


class Window:
    """A window that waits for each answer.

    at: the index of its pair. left: clicks until it takes another. tokens: of its prompt.
    """

    def __init__(self, backend: Backend, at: int) -> None:
        """at: the index of the pair that it takes first."""
        self.at, self.left, self.tokens = at, 0, 0
        self._number, self._answer = 0, json.dumps(None)
        self._over = threading.Event()
        self._desk = Desk(backend, self._told)

    def _told(self, number: int, what: str, content: Json) -> None:
        text = json.dumps({"what": what, **content}, allow_nan=False)  # as the server writes it
        if what != "step" and number == self._number:
            self._answer = text
            self._over.set()

    def ask(self, **request: object) -> Json:
        """What a request is answered with."""
        self._number += 1
        self._over.clear()
        self._desk.ask(messages.read(json.dumps({"id": self._number, **request})))
        if not self._over.wait(60):
            sys.exit("no answer within a minute")
        answer: Json = json.loads(self._answer)
        if answer["what"] != "done":
            sys.exit(str(answer))
        return answer

    def take(self) -> None:
        """Take the next pair."""
        pair = self.ask(do="task_prompts", index=self.at)
        self.at, self.left = self.at + 1, CLICKS_A_PAIR
        self.tokens = len(pair["clean"])  # type: ignore[arg-type]


def main() -> None:
    """Click, and say what is held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="newsroom-gpt2")
    parser.add_argument("--task", default="newsroom")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--clicks", type=int, default=7680)
    parser.add_argument("--every", type=int, default=960)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = HookedModel.from_pretrained(options.model, device="cpu")
    pairs = tasks.load(options.task).pairs(model.tokenizer, n=options.pairs, split="test")
    backend = backend_of(model=model, pairs=pairs)
    layout, draw = backend.about()["layout"], random.Random(0)
    windows = [Window(backend, place) for place in range(options.windows)]
    for click in range(options.clicks):
        window = windows[click % len(windows)]
        if not window.left:
            window.take()
        window.left -= 1
        window.ask(**random_click(draw, layout, window.tokens))  # type: ignore[arg-type]
        if (click + 1) % options.every == 0:
            while backend.worker.waiting:
                time.sleep(0.01)
            print(f"{click + 1:6d} clicks: {held()}", flush=True)
    backend.worker.stop()


def held() -> str:
    """What this process holds, once the collector has been through."""
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _MallocInfo
    info = mallinfo()
    return (
        f"{memory_mib(os.getpid()):.1f} MiB resident; malloc: {info.uordblks / MIB:.1f} MiB given "
        f"out, {info.fordblks / MIB:.1f} MiB free; Python: {sys.getallocatedblocks():,} blocks, "
        f"{len(gc.get_objects()):,} objects"
    )


if __name__ == "__main__":
    main()
