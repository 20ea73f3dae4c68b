"""What a set's scores take in of each batch: sums, and what each example is known by.

They are made where the batch is scored. A worker that sees the disk on which single examples are
kept writes its own there, and hands on sums alone, whatever the number of examples in the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attribution.batch_scores import BatchScores, PathScores
from circuits.errors import CircuitsError
from circuits.models import HookedModel
from circuits.runtime.shared_rows import SharedRows
from tasks.pairs import PairBatch

Work = Callable[[HookedModel, PairBatch], BatchScores]
"""The scores of a batch by a model."""


@dataclass(frozen=True)
class Doubt:
    """Of `PathScores`, what a set keeps.

    total: sum of the doubt over the examples, in the columns that were looked at. columns: these.
    stands_for: as how many columns each counts. path: rows are each example's error and gradients.
    """

    total: Float[Tensor, "*unit some"]
    columns: Int[Tensor, " some"]
    stands_for: Float[Tensor, " column"]
    path: Float[Tensor, "2 batch"]


@dataclass(frozen=True)
class BatchSums:
    """Of one batch, on the CPU.

    scores: of each example, where they are not in the file of rows; checks: of the rows, where they
    are, and then total: their sum. ends: the metric, clean and corrupted. doubt: of methods that
    have any.
    """

    scores: Float[Tensor, "batch ..."] | None
    checks: Int[Tensor, " batch"] | None
    total: Float[Tensor, "*unit"] | None
    ends: Float[Tensor, "2 batch"]
    doubt: Doubt | None

    @classmethod
    def of(cls, batch_scores: BatchScores) -> BatchSums:
        """Of scores that are kept by whoever takes them in."""
        doubt = None
        if isinstance(batch_scores, PathScores):
            columns = batch_scores.stands_for.nonzero()[:, 0]
            path = torch.stack([batch_scores.error, batch_scores.gradients]).detach().cpu()
            total = _sum(batch_scores.doubt.index_select(-1, columns).cpu())
            doubt = Doubt(total, columns.cpu(), batch_scores.stands_for.cpu(), path)
        ends = torch.stack([batch_scores.clean, batch_scores.corrupted]).detach().cpu()
        return cls(batch_scores.scores.cpu(), None, None, ends, doubt)

    def add_to(self, total: Float[Tensor, "*unit"]) -> None:
        """Add the sum over the examples to a sum in float64."""
        if self.total is not None:
            total += self.total
        else:
            assert self.scores is not None
            total += _sum(self.scores)


def _sum(values: Float[Tensor, "batch ..."]) -> Tensor:
    """Over the examples: in float64, but one example is its own sum."""
    return values[0] if len(values) == 1 else values.sum(dim=0, dtype=torch.float64)


def summed(
    work: Work, start: int, rows: SharedRows | None, model: HookedModel, batch: PairBatch
) -> BatchSums:
    """Do the work on a batch of a part of the set.

    Args:
        work: its scores.
        start: the part's first example's place in the whole set.
        rows: where single examples may be written; None leaves them with the result.
        model: is given to the work.
        batch: likewise, its examples placed in the whole set.

    Raises:
        CircuitsError: where a score is not finite.
    """
    indices = batch.index + start
    sums = BatchSums.of(work(model, replace(batch, index=indices)))
    assert sums.scores is not None
    _require_finite(sums.scores, batch)
    checks = None if rows is None else rows.put(indices.cpu(), sums.scores)
    if checks is None:
        return sums
    return replace(sums, scores=None, checks=checks, total=_sum(sums.scores))


def _require_finite(scores: Tensor, batch: PairBatch) -> None:
    finite = torch.isfinite(scores).flatten(1).all(dim=1)
    if not finite.all():
        bad = batch.sources[int((~finite).nonzero()[0])]
        raise CircuitsError(f"{bad}: a score is not finite; try dtype float32")
