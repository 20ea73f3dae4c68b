"""Run as a process of its own: fine-tunes in forked children that are killed at chosen events.

    python kill_worker.py MODEL OUT N KIND

Trains once undisturbed, to OUT/whole, counting events: files reaching the disk, renames, and
optimizer steps. Then, for N moments spread over those events, a child is killed (SIGKILL) at that
moment, a second one soon after it started again, and a third is left to finish in
OUT/killed-<moment>. Exits 0 when every child ended as told.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from killing import Moments, in_child
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from circuits.options.tuning import FinetuneSettings
from circuits.tuning.finetune import finetune
from circuits.tuning.targets import lora_config, wrap
from tasks.pairs import TrainingExample

SETTINGS = FinetuneSettings(
    steps=5,
    learning_rate=1e-2,
    warmup_steps=1,
    batch_size=3,
    checkpoint_steps=(3,),
    validate_every=2,
    save_state_every=2,
)
STOPPING = replace(
    SETTINGS, steps=14, learning_rate=2e-2, checkpoint_steps=(), validate_every=1, patience=3
)
EXAMPLES = [TrainingExample((i + 1, i + 2, *range(i)), (i + 3, 7), f"row {i}") for i in range(8)]
OTHER = TrainingExample((40, 2), (60, 9), "row 8")  # nothing of it is learned


def made(model_folder: str, kind: str) -> torch.nn.Module:
    """The model to train."""
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    if kind != "lora":
        return model
    torch.manual_seed(0)
    return wrap(model, lora_config([1], model, rank=2, dropout=0.1))


def train(model_folder: str, out: Path, kind: str) -> None:
    model = made(model_folder, kind)
    settings, validation = SETTINGS, EXAMPLES[:3]
    if kind == "stopping":
        settings, validation = STOPPING, [EXAMPLES[0], OTHER]
    finetune(model, EXAMPLES, out, settings=settings, validation=validation, progress=False)


def child(model_folder: str, out: Path, kind: str, kill_at: int | None) -> int:
    """Exit status of a child that trains."""

    def work() -> None:
        moments = Moments(kill_at)
        moments.watch(os, "fsync")
        moments.watch(Path, "replace")
        moments.watch(Path, "rename")
        moments.watch(torch.optim.AdamW, "step")
        train(model_folder, out, kind)
        out.with_name("events").write_text(str(moments.seen))

    return in_child(work)


def main(model_folder: str, out: Path, moments: int, kind: str) -> int:
    warnings.simplefilter("error")
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    made(model_folder, kind)  # what it imports is imported once, and not in every child
    if child(model_folder, out / "whole", kind, None) != 0:
        return 1
    events = int((out / "events").read_text())
    for number in range(moments):
        kill_at = 1 + number * (events - 1) // (moments - 1)
        folder = out / f"killed-{kill_at}"
        if child(model_folder, folder, kind, kill_at) != -signal.SIGKILL:
            return 2
        child(model_folder, folder, kind, 5)
        if child(model_folder, folder, kind, None) != 0:
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
