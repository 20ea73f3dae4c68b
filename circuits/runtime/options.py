"""How work runs, in one place: what every function that runs a model takes as `options`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunOptions:
    """Batches, the seed of every random draw, and progress.

    batch_size: prompt pairs at a time; None asks the planner for as many as fit.
    seed: of resamples, random circuits and every other draw.
    progress: show a progress bar on stderr.
    """

    batch_size: int | None = None
    seed: int = 0
    progress: bool = False
