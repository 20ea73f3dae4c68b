"""How a circuit is chosen from scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from circuits.options.choices import Fraction, PositiveRatio, Ranking, RankingOrAuto, Strategy
from circuits.options.declared import Options, Sensible, Within

SensibleFraction = Annotated[
    Fraction, Sensible(0.01, 0.1, "real-models.md#scores-and-rankings", "of edges")
]


@dataclass(frozen=True)
class OrderOptions(Options):
    """Which edges, nodes or neurons come first.

    Attributes:
        strategy: How edges are taken by their rank: whole paths from input to logits (widest-path),
            the best edge into what is taken already (greedy), rank alone (top-n), or rank, with
            edges of an unsure sign last (stable). The default is widest-path; nodes and neurons
            have top-n alone.
        positive_ratio: For ranking mixed, which needs it: the share that is taken by signed score,
            from 0 to 1.
    """

    strategy: Strategy | None = None
    positive_ratio: PositiveRatio | None = None


@dataclass(frozen=True)
class SelectionOptions(OrderOptions):
    """How a circuit is selected by scores alone.

    Attributes:
        ranking: What the highest rank goes to: the largest size of a score (absolute), the most
            positive score (signed), or some of both (mixed).
        prune: Drop edges that are on no path from input to logits, or keep them.
    """

    ranking: Ranking = "absolute"
    prune: bool = True


@dataclass(frozen=True)
class CircuitOptions(OrderOptions):
    """How a circuit is selected where pairs can tell which ranking is right.

    Attributes:
        ranking: What the highest rank goes to: the largest size of a score (absolute), the most
            positive score (signed), or some of both (mixed); auto takes the one whose circuits are
            most faithful on further pairs.
        choose: For ranking auto, the number of further pairs.
        fraction: Size of the circuit, as a fraction of all edges, nodes or neurons, before pruning.
    """

    ranking: RankingOrAuto = "auto"
    choose: Annotated[
        int, Within(at_least=2), Sensible(16, math.inf, "real-models.md#what-the-defaults-give")
    ] = 16
    fraction: SensibleFraction = 0.1
