"""How alike the scores of one model in two precisions are: what rounding its weights does to them.

8 bits a weight leave the ranking of edges nearly as it is. 4 bits do not, although the model still
answers: circuits found in it are circuits of another model.
"""

from __future__ import annotations

from dataclasses import dataclass

from circuits.comparison.similarity import spearman
from circuits.errors import CircuitsError
from circuits.format import signed
from circuits.graph import EdgeScores

TOP = 0.01


@dataclass(frozen=True)
class PrecisionAgreement:
    """Two rankings of the same edges, by mean scores over the same examples.

    Attributes:
        n: how many examples.
        rank: Spearman's correlation of the scores.
        top: what the largest 1 % of both, by absolute score, share: of either's number of edges.
    """

    n: int
    rank: float
    top: float

    def __str__(self) -> str:
        return (
            f"rank correlation {signed(self.rank, 2)}, the top {TOP:.0%} of edges share "
            f"{signed(self.top, 2)} (n = {self.n} pairs)"
        )


def agreement_of(one: EdgeScores, other: EdgeScores) -> PrecisionAgreement:
    """Compare the mean scores of two precisions of a model.

    Args:
        one: scores in one precision.
        other: in another, of the same examples, or of others to see what those do.

    Returns:
        How alike they are.

    Raises:
        CircuitsError: for models of other graphs.
    """
    if one.layout != other.layout:
        raise CircuitsError(
            f"scores of a model with {one.layout.summary} and of one with {other.layout.summary} "
            "are not of one model in two precisions"
        )
    values = [scores.matrix[scores.layout.mask].double() for scores in (one, other)]
    size = max(1, round(TOP * len(values[0])))
    top = [set(each.abs().topk(size).indices.tolist()) for each in values]
    n = min(0 if data is None else data.n for data in (one.provenance.data, other.provenance.data))
    return PrecisionAgreement(n, float(spearman(*values)), len(top[0] & top[1]) / size)
