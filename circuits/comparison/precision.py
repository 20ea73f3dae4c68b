"""How alike the scores of one model in two precisions are: what rounding its weights does to them.

8 bits a weight leave the ranking of edges nearly as it is. 4 bits do not, although the model still
answers: circuits found in it are circuits of another model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scipy.stats import spearmanr

from circuits.attribution import attribute
from circuits.attribution.method import Method
from circuits.errors import CircuitsError
from circuits.format import signed
from circuits.graph import EdgeScores
from circuits.models import HookedModel
from circuits.models.quantised import kept_as, unquantised_bytes
from circuits.options.run import RunOptions
from circuits.planning.device import available_memory
from tasks.pairs import PairSet

TOP = 0.01
N_COMPARED = 8
_ROOM = 1.5  # of the unquantised weights' size, for them and a pass of one pair
_COARSE = ("nf4", "fp4")


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


def agreement_of(first: EdgeScores, second: EdgeScores) -> PrecisionAgreement:
    """Compare the mean scores of two precisions of a model.

    Args:
        first: scores in one precision.
        second: in another, of the same examples, or of others to see what those do.

    Returns:
        How alike they are.

    Raises:
        CircuitsError: for models of other graphs.
    """
    if first.layout != second.layout:
        raise CircuitsError(
            f"scores of a model with {first.layout.summary} and of one with "
            f"{second.layout.summary} are not of one model in two precisions"
        )
    values = [scores.matrix[scores.layout.mask].double() for scores in (first, second)]
    size = max(1, round(TOP * len(values[0])))
    top = [set(v.abs().topk(size).indices.tolist()) for v in values]
    n = min(
        0 if data is None else data.n for data in (first.provenance.data, second.provenance.data)
    )
    return PrecisionAgreement(n, float(spearmanr(*values).statistic), len(top[0] & top[1]) / size)


def precision_of(model: HookedModel) -> str | None:
    """How a quantised model's weights are kept, and what that means.

    Args:
        model: as loaded.

    Returns:
        A line: that a model of 4 bits is another model; None for plain weights.
    """
    kind = model.quantisation
    if kind is None:
        return None
    line = f"{model.name}: its weights are quantised ({kind})"
    coarse = kept_as(model.hf) in _COARSE
    return f"{line}; circuits of 4 bits are circuits of another model" if coarse else line


def beside_unquantised(
    model: HookedModel,
    pairs: PairSet,
    method: str | Method,
    load: Callable[[], HookedModel],
    options: RunOptions | None = None,
    metric: str | None = None,
) -> str:
    """What quantising did to the scores of a model, on the first pairs.

    Args:
        model: quantised.
        pairs: what is scored; the first 8 are compared.
        method: of the scores.
        load: loads the same model unquantised; called where it fits beside this one.
        options: batches and progress.
        metric: that scores are of; by default the pairs' own.

    Returns:
        One line: how its weights are kept, that a model of 4 bits is another model, and how alike
        the scores are, or why that is not known.

    Raises:
        CircuitsError: for a model that is not quantised.
    """
    line = precision_of(model)
    if line is None:
        raise CircuitsError(f"{model.name}: its weights are not quantised")
    needed, free = _ROOM * unquantised_bytes(model.hf), available_memory(model.device)
    if needed > free:
        return (
            f"{line}; not compared with it unquantised, which needs {needed / 1e9:.1f} GB "
            f"where {free / 1e9:.1f} GB are free"
        )
    sample = pairs[:N_COMPARED]
    both_scores = [
        attribute(loaded, sample, method, metric=metric, options=options, per_example=False)
        for loaded in (model, load())
    ]
    return (
        f"{line}; its edges' scores against the unquantised model's: {agreement_of(*both_scores)}"
    )
