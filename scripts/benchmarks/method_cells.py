"""One method on one model and one task: the scores, their time, and what circuits by them do.

A cell keeps the metric of every run on every pair, so that two methods are compared pair by pair
without running anything again.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from method_rows import SHARE
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.answers import share_right
from circuits.evaluation.faithfulness import curve_statistic
from circuits.options.choices import Ranking
from circuits.runtime.result_file import AsList, MaybeUndefined, Record, ResultFile
from circuits.statistics.estimate import Estimate, Statistic, estimates

FRACTIONS = (0.01, 0.1, 0.5)
"""Of the edges. All of them are the model itself: f = 1 there, without a run."""
RANKINGS: dict[Ranking, tuple[float, ...]] = {
    "signed": FRACTIONS,
    "absolute": FRACTIONS,
    "mixed": (SHARE,),
}
_CPR, _CMD = -3, -2  # among the figures of `curve_statistic`


class Figures(Record):
    """What a row of the table says. Areas are over shares from 1 to 100 % of the edges.

    cpr: area under f by signed score. cmd: area under |1 - f| by absolute score. f, accuracy: by
    ranking, at each of its shares.
    """

    cpr: Estimate
    cmd: Estimate
    f: dict[str, tuple[Estimate, ...]]
    accuracy: dict[str, tuple[Estimate, ...]]


class Setting(Record):
    """What a cell depends on beside model, task and method.

    score, judge: pairs that are scored on, and judged on. shares: of the edges, by ranking.
    """

    score: int
    judge: int
    shares: dict[Ranking, tuple[float, ...]]


class Cell(ResultFile):
    """One method on one model and one task.

    refused: why there is nothing else; "" where there is. seconds: of the processor, from the pairs
    to the scores, with those of the rows that it is made from.
    n_edges: of the model. on_paths: of the first 1 % of the edges by signed score, how many are on
    a path from input to logits, as MIB counts them.
    halves: likeness of the circuits of 1 % (signed) of two halves of the pairs; None where scores
    of single pairs do not exist or do not differ.
    metric, right: of each pair (rows) in each run: clean, corrupted, then the circuits by
    ranking and share.
    """

    KIND: ClassVar[str] = "method-cell"

    model: str
    task: str
    method: str
    setting: Setting
    refused: str = ""
    seconds: MaybeUndefined = float("nan")
    n_edges: int = 0
    on_paths: int = 0
    halves: Estimate | None = None
    metric: Annotated[Float[Tensor, "pair run"], AsList()] | None = None
    right: Annotated[Float[Tensor, "pair run"], AsList()] | None = None

    def curve(self, ranking: Ranking) -> Float[Tensor, "pair circuit"]:
        """The metric of the circuits of one ranking, the whole model last."""
        assert self.metric is not None
        return torch.cat([self.metric[:, _columns(ranking)], self.metric[:, :1]], dim=1)

    def figures(self) -> Figures:
        """f, its areas and the accuracy, with intervals over the pairs."""
        assert self.metric is not None and self.right is not None
        ends, right = self.metric[:, :2], self.right
        by_ranking = {
            ranking: estimates(
                torch.cat([ends, self.curve(ranking)], dim=1), curve_statistic(1, _axis(ranking))
            )
            for ranking in RANKINGS
        }
        return Figures(
            cpr=by_ranking["signed"][_CPR],
            cmd=by_ranking["absolute"][_CMD],
            f={
                ranking: tuple(by_ranking[ranking][: len(shares)])
                for ranking, shares in RANKINGS.items()
            },
            accuracy={
                ranking: tuple(share_right(column, 0) for column in right[:, _columns(ranking)].T)
                for ranking in RANKINGS
            },
        )

    def less(self, other: Cell) -> tuple[Estimate, Estimate]:
        """CPR and CMD of this method less another's on the same pairs, paired."""
        assert self.metric is not None
        ends = self.metric[:, :2]

        def difference(ranking: Ranking, place: int) -> Estimate:
            both = torch.cat([ends, self.curve(ranking), other.curve(ranking)], dim=1)
            return estimates(both, _difference(ranking, place))[0]

        return difference("signed", _CPR), difference("absolute", _CMD)


def _columns(ranking: Ranking) -> list[int]:
    """Of a cell's runs, those of one ranking."""
    first = 2
    for name, shares in RANKINGS.items():
        if name == ranking:
            return list(range(first, first + len(shares)))
        first += len(shares)
    raise CircuitsError(f"no circuits by ranking {ranking!r}")


def _axis(ranking: Ranking) -> Float[Tensor, " circuit"]:
    return torch.tensor([*RANKINGS[ranking], 1.0], dtype=torch.float64)


def _difference(ranking: Ranking, place: int) -> Statistic:
    """One of the figures of the first half of the circuits less that of the second."""
    statistic, n = curve_statistic(1, _axis(ranking)), len(_axis(ranking))

    def less(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample 1"]:
        ends = means[..., :2]
        sides = (means[..., 2 : 2 + n], means[..., 2 + n :])
        first, second = (
            statistic(torch.cat([ends, side], dim=-1))[..., place, None] for side in sides
        )
        return first - second

    return less
