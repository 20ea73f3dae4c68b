"""Which neurons are put back to what they were in the base."""

from __future__ import annotations

from dataclasses import dataclass

from circuits.errors import CircuitsError
from circuits.options.choices import Count, Positive, Resamples
from circuits.options.declared import Options


@dataclass(frozen=True, kw_only=True)
class RestorationConfig(Options):
    """Neurons of a fine-tuned model that get the base's activations, singly and together.

    Attributes:
        candidates: The neurons that changed most; sets are made of these.
        sizes: Neurons that are put back together; none is larger than `candidates`.
        greedy: Neurons that are chosen one after the other, whichever undoes most.
        draws: Random sets of candidates of each size, no two alike.
        n_resamples: Bootstrap resamples of the examples.
    """

    candidates: Positive = 16
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    greedy: Count = 4
    draws: Positive = 10
    n_resamples: Resamples = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sizes", tuple(sorted(set(self.sizes))))
        wrong = [size for size in self.sizes if not 1 <= size <= self.candidates]
        if wrong or not self.sizes:
            raise CircuitsError(
                f"sizes {wrong}: one or more, each between 1 and candidates ({self.candidates})"
            )
        if self.greedy > self.candidates:
            raise CircuitsError(
                f"greedy {self.greedy}: there are {self.candidates} candidates to choose from"
            )
