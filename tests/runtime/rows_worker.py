"""Run as a process of its own: examples scored in forked children, killed in the midst of a row.

    python rows_worker.py OUT

Scores twelve pairs once undisturbed, to OUT/whole. Then for three moments a child is killed
(SIGKILL) when half of a row is written, and another is left to finish in the same folder.
OUT/killed.json says how many rows each of those had left to write.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from killing import in_child

import circuits
import tasks
from circuits.options.run import RunOptions
from circuits.runtime import resume


def score(out: Path) -> None:
    """Twelve pairs by EAP, in batches of three."""
    model = circuits.HookedModel.from_pretrained("newsroom-gpt2", device="cpu")
    pairs = tasks.load("newsroom").pairs(model.tokenizer, 12, split="validation")
    with resume.PartialResults(out / resume.NAME) as so_far:
        options = RunOptions(batch_size=3)
        circuits.attribute(model, pairs, "eap", options=options, resume=so_far).save(out)


def child(out: Path, kill_at: int | None) -> int:
    """Exit status of a child that scores, and is killed in its `kill_at`th row."""
    written = 0
    whole = os.pwrite

    def pwrite(handle: int, content: memoryview, at: int) -> int:
        nonlocal written
        written += 1
        if written == kill_at:
            whole(handle, content[: len(content) // 2], at)
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(handle, content, at)

    def work() -> None:
        resume._EVERY = resume._COST = 0
        os.pwrite = pwrite
        score(out)
        (out / "written.json").write_text(json.dumps(written))

    return in_child(work)


def main(out: Path) -> int:
    torch.set_num_threads(1)
    score(out / "before")  # what it imports is imported once
    if child(out / "whole", None) != 0:
        return 1
    killed = {}
    for moment in (1, 5, 12):
        folder = out / f"killed-{moment}"
        if child(folder, moment) != -signal.SIGKILL:
            return 2
        if child(folder, None) != 0:
            return 3
        killed[folder.name] = json.loads((folder / "written.json").read_text())
    (out / "killed.json").write_text(json.dumps(killed))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
