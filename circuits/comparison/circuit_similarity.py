"""How similar two circuits are: each figure with its interval, noise ceiling and null distribution.

`agreement` says how they are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from circuits.runtime.result_file import MaybeUndefined
from circuits.statistics.estimate import Estimate


@dataclass(frozen=True)
class SimilarityEstimate:
    """A similarity (or turnover) of two checkpoints, beside its noise ceiling (or floor).

    Figures are NaN where they are undefined (the rewired share where no edge was added or removed).

    Attributes:
        estimate: on all examples; the 95 % interval is for what a sample of this size gives on
            average.
        between: one checkpoint on one half of the examples and the other checkpoint on the other
            half, mean over random halves.
        within: one checkpoint on the two halves, mean over both checkpoints: the noise ceiling of
            a similarity, the noise floor of a turnover.
        gap: between - within. Where its interval holds 0, the checkpoints are as similar as this
            number of examples can tell.
        permuted: on all examples, with the checkpoints' labels swapped at random by example: mean
            and central 95 %. What `estimate` would be without a change.
    """

    estimate: Estimate
    between: MaybeUndefined
    within: MaybeUndefined
    gap: Estimate
    permuted: Estimate

    @property
    def below_ceiling(self) -> bool:
        """Whether the checkpoints are less similar than noise alone would leave them."""
        return self.gap.high < 0


@dataclass(frozen=True)
class CircuitSimilarity:
    """Two circuits of equal size: the top edges by |score|, before pruning.

    Attributes:
        size: edges in each circuit.
        fraction: size as a share of all edges.
        edge_jaccard: edges in both circuits over edges in either.
        weighted_jaccard: the same, each edge weighted by its share of its circuit's summed |score|.
        node_jaccard: nodes in both circuits over nodes in either.
        node_driven: edges that were added or removed with one of their nodes, as a share of the
            edges in either circuit.
        rewired: edges that were added or removed while both circuits hold both of their nodes, as
            a share of the edges in either circuit. node_driven + rewired = 1 - edge_jaccard.
        rewired_share: rewired / (node_driven + rewired).
    """

    size: int
    fraction: float
    edge_jaccard: SimilarityEstimate
    weighted_jaccard: SimilarityEstimate
    node_jaccard: SimilarityEstimate
    node_driven: SimilarityEstimate
    rewired: SimilarityEstimate
    rewired_share: SimilarityEstimate

    @property
    def turnover(self) -> Estimate:
        """Edges that were added or removed, as a share of the edges in either circuit."""
        return self.edge_jaccard.estimate.complement

    @property
    def permuted_turnover(self) -> Estimate:
        """Turnover with the checkpoints' labels swapped at random by example."""
        return self.edge_jaccard.permuted.complement


@dataclass(frozen=True)
class SampleCounts:
    """How many random samples similarity and turnover come from; no bootstrap resamples are used.

    Attributes:
        halves: random halves of the examples, for the intervals of values.
        splits: random splits in two halves, for between and within.
        gap_subsets: random subsets of 60 % of the examples, for the intervals of gaps.
        gap_splits: splits of each of those subsets.
        label_swaps: random swaps of the checkpoints' labels, for the null distribution.
    """

    halves: int
    splits: int
    gap_subsets: int
    gap_splits: int
    label_swaps: int
