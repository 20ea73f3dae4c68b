"""How checkpoints are compared."""

from __future__ import annotations

from dataclasses import dataclass

from circuits.errors import CircuitsError
from circuits.options.choices import Fraction, Positive, Resamples
from circuits.options.declared import Options


@dataclass(frozen=True, kw_only=True)
class ResampleOptions(Options):
    """How intervals of a comparison are made.

    Attributes:
        n_resamples: Bootstrap resamples.
    """

    n_resamples: Resamples = 1000


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(ResampleOptions):
    """The comparison of checkpoints in a run.

    Attributes:
        sizes: Circuit sizes as fractions of all edges, at least one.
        cross_evaluation: Pairs on which every checkpoint's circuit is run on every checkpoint; None
            leaves it out.
    """

    sizes: tuple[Fraction, ...] = (0.02, 0.05, 0.1, 0.2)
    cross_evaluation: Positive | None = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sizes:
            raise CircuitsError("sizes: give at least one")
