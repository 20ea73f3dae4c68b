"""Run as a process of its own: `circuits compare` in forked children, killed at chosen moments.

    python compare_worker.py OUT N SCORES...

Compares once undisturbed, to OUT/whole, counting what is measured: similarities of two checkpoints,
and variance decompositions. Then, for N moments spread over those, a child is killed (SIGKILL) at
that moment and another is left to finish, in OUT/killed-<moment>. OUT/events.json says what each
child that finished has measured. Exits 0 when every child ended as told.
"""

from __future__ import annotations

import json
import signal
import sys
from importlib import import_module
from pathlib import Path

import torch
from killing import Moments, in_child

from circuits.cli.app import app
from circuits.comparison import agreement, compare
from circuits.runtime import resume as resume

CHECKPOINTS = sys.modules[compare.__module__]


def child(scores: list[str], out: Path, events: Path, kill_at: int | None) -> int:
    """Exit status of a child that compares."""

    def work() -> None:
        resume._EVERY = resume._COST = 0  # so that a piece is written chunk by chunk
        agreement._CHUNK = 2**14
        moments = Moments(kill_at)
        moments.watch(agreement, "similarities")
        moments.watch(CHECKPOINTS, "decompose_variance")
        arguments = ["compare", *scores, "--out", str(out), "--n-resamples", "100", "--quiet"]
        app(arguments, standalone_mode=False)
        held = json.loads(events.read_text()) if events.exists() else {}
        events.write_text(json.dumps({**held, out.name: moments.seen}))

    return in_child(work)


def main(out: Path, moments: int, scores: list[str]) -> int:
    torch.set_num_threads(1)
    for name in ("scipy.stats", "circuits.report.comparison_page"):
        import_module(name)  # once, and not again in every child
    events = out / "events.json"
    if child(scores, out / "whole", events, None) != 0:
        return 1
    count = json.loads(events.read_text())["whole"]
    for number in range(moments):
        kill_at = 2 + number * (count - 2) // (moments - 1)
        folder = out / f"killed-{kill_at}"
        if child(scores, folder, events, kill_at) != -signal.SIGKILL:
            return 2
        if child(scores, folder, events, None) != 0:
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
