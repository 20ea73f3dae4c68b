"""A run of one circuit that runs of other circuits start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from circuits.intervention.cached_modules import CachedModules
from circuits.intervention.source_differences import SettledSums
from circuits.models import SourceActivations


@dataclass(frozen=True)
class SettledRun:
    """What is kept of the run.

    mask: the circuit that was run. live: what its sources give. replay: what its modules give.
    sums: what readers read of it along edges that they keep or lack. sums_at_answers: the same at
    the answer positions alone.
    """

    mask: Bool[Tensor, "source reader"]
    live: SourceActivations
    replay: CachedModules
    sums: SettledSums
    sums_at_answers: SettledSums

    def tensors(self) -> Iterator[Tensor]:
        """All that it holds of the model's numbers."""
        yield from self.live.tensors()
        yield from self.replay.tensors()
        yield from self.sums.tensors()
        yield from self.sums_at_answers.tensors()
