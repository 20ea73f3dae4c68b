"""How several scores become one ranking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from circuits.options.choices import Count, Strategy
from circuits.options.declared import Options

Reduction = Literal["mean", "max", "min"]
Scale = Literal["size", "rank"]


@dataclass(frozen=True)
class EnsembleConfig(Options):
    """How several scores of one model are put together.

    Attributes:
        reduction: What an edge gets of its members' scores: their weighted mean (mean), the one of
            largest size (max: edges that any member is for), or the one of smallest size (min:
            edges that all are for).
        scale: How members are made comparable: by their mean absolute score (size), or by the rank
            of each absolute score, from 1 down to 0, with its sign (rank).
    """

    reduction: Reduction = "mean"
    scale: Scale = "size"


@dataclass(frozen=True)
class WeightTrials(Options):
    """Which weights of an ensemble's members are tried.

    Attributes:
        size: Edges (nodes, neurons) of the circuit asked for, before pruning.
        draws: Random weights, beside each member alone and all alike.
        strategy: How edges are taken by their rank (default: widest-path; nodes and neurons have
            top-n alone).
    """

    size: Count
    draws: Count = 8
    strategy: Strategy | None = None
