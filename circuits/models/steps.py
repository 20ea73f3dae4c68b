"""Training steps of checkpoints, from their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_LATE = re.compile(
    r"(?:^|[-_.])(?:final|last|latest|best|(?:fine-?)?tuned|merged|lora)(?:$|[-_.])", re.IGNORECASE
)
_END = ("final", "last")
_STEP = re.compile(r"(?:^|(?:step|checkpoint|ckpt|iter)[-_=]?)(\d+)$", re.IGNORECASE)


def training_step(name: str) -> int | None:
    """300 for "step-300", "checkpoint-300", "300" and folders of such names; 0 for "base".

    None for other names.
    """
    last = Path(name).name
    if last.lower() == "base":
        return 0
    match = _STEP.search(last)
    return int(match[1]) if match else None


def training_steps(names: Sequence[str]) -> list[int] | None:
    """The step of every checkpoint; None where the names do not tell.

    A first name without a step, "gpt2" before "step-100" and "step-200", is the base, unless it
    speaks of training ("final", "my-tuned-gpt2"). Elsewhere such a name might stand for any step.
    """
    parsed_steps = [training_step(name) for name in names]
    if parsed_steps[1:] and parsed_steps[0] is None and not _LATE.search(Path(names[0]).name):
        parsed_steps[0] = 0
    steps = [step for step in parsed_steps if step is not None]
    return steps if len(set(steps)) == len(names) else None


def by_step(names: Sequence[str]) -> list[int]:
    """Places of the checkpoints in the order of their steps; as given where these are not known.

    "final" or "last" stands behind them all, wherever a shell's `*` put it.
    """
    end = [index for index, name in enumerate(names) if Path(name).name.lower() in _END]
    indices = [index for index in range(len(names)) if index not in end]
    steps = training_steps([names[index] for index in indices])
    if steps is None or len(end) > 1:
        return list(range(len(names)))
    return [index for _, index in sorted(zip(steps, indices, strict=True))] + end
