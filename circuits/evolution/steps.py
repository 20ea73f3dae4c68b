"""Training steps of checkpoints, from their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_STEP = re.compile(r"(?:^|(?:step|checkpoint|ckpt|iter)[-_=]?)(\d+)$", re.IGNORECASE)


def training_step(name: str) -> int | None:
    """300 for "step-300", "checkpoint-300", "300" and folders of such names; 0 for "base".

    None for other names.
    """
    last = Path(name).name
    if last.lower() == "base":
        return 0
    found = _STEP.search(last)
    return int(found[1]) if found else None


def training_steps(names: Sequence[str]) -> list[int] | None:
    """The step of every checkpoint; None where the names do not tell.

    A first name without a step, "gpt2" before "step-100" and "step-200", is the base. Elsewhere
    such a name ("final") might stand for any step.
    """
    found = [training_step(name) for name in names]
    if found[1:] and found[0] is None:
        found[0] = 0
    steps = [step for step in found if step is not None]
    return steps if len(set(steps)) == len(names) else None


def by_step(names: Sequence[str]) -> list[int]:
    """Places of the checkpoints in the order of their steps; as given where these are not known."""
    places = list(range(len(names)))
    steps = training_steps(names)
    return places if steps is None else sorted(places, key=steps.__getitem__)
