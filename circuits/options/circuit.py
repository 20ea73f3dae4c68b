"""How a circuit is chosen from scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from circuits.options.choices import Fraction, Ranking, RankingOrAuto, Share, Strategy
from circuits.options.declared import Options, Within


@dataclass(frozen=True)
class OrderOptions(Options):
    """Which edges, nodes or neurons come first.

    Attributes:
        strategy: How a ranking becomes an order (default: widest-path; for nodes and neurons top-n,
            the only one there is).
        positive_ratio: For ranking mixed, the share that is taken by signed score.
    """

    strategy: Strategy | None = None
    positive_ratio: Share | None = None


@dataclass(frozen=True)
class SelectionOptions(OrderOptions):
    """How a circuit is selected by scores alone.

    Attributes:
        ranking: What a score is worth: its absolute value, its signed value, or a mix of the two.
        prune: Drop edges on no path from input to logits, or keep them.
    """

    ranking: Ranking = "absolute"
    prune: bool = True


@dataclass(frozen=True)
class CircuitOptions(OrderOptions):
    """How a circuit is selected where pairs can tell which ranking is right.

    Attributes:
        ranking: What a score is worth: absolute, signed, mixed, or auto for the one whose circuits
            are most faithful on further pairs.
        choose: For ranking auto, how many further pairs.
        fraction: Size of the circuit, as a fraction of all edges, nodes or neurons, before pruning.
    """

    ranking: RankingOrAuto = "auto"
    choose: Annotated[int, Within(at_least=2)] = 16
    fraction: Fraction = 0.1
