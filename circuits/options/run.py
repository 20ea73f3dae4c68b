"""How work runs: what every function that runs a model takes as `options`."""

from __future__ import annotations

from dataclasses import dataclass

from circuits.options.choices import Count, Positive
from circuits.options.declared import Options
from circuits.options.engine import RayEngine


@dataclass(frozen=True)
class BatchOptions(Options):
    """What is run at a time.

    Attributes:
        batch_size: Prompt pairs at a time (default: as many as fit and still gain speed).
    """

    batch_size: Positive | None = None


@dataclass(frozen=True, kw_only=True)
class RecomputeOptions(Options):
    """What is kept for a backward pass.

    Attributes:
        recompute: Run layers again in the backward pass: less memory, more time, the same scores
            (default: only where not one pair fits without).
    """

    recompute: bool | None = None


@dataclass(frozen=True)
class RunOptions(BatchOptions, RecomputeOptions):
    """Batches, memory, the seed of every random draw, and progress.

    Attributes:
        seed: Seed of every random choice.
        progress: Show a progress bar on stderr.
        engine: The workers that run the batches (default: none; this process runs them).
    """

    seed: Count = 0
    progress: bool = False
    engine: RayEngine | None = None
