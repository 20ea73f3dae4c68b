"""One method on one model and one task: the scores, their time, and what circuits by them do.

A cell keeps the metric of every run on every pair, so that two methods are compared pair by pair
without running anything again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from method_rows import ROWS, SHARE
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation import measure, stability
from circuits.evaluation.answers import share_right
from circuits.evaluation.faithfulness import curve_statistic
from circuits.evaluation.mib import weighted_edge_count
from circuits.graph import Circuit, EdgeScores
from circuits.graph.levels import DEFAULT_STRATEGIES
from circuits.graph.orders import edge_order
from circuits.models import HookedModel
from circuits.options.choices import Ranking, Strategy
from circuits.runtime.result_file import AsList, MaybeUndefined, Record, ResultFile
from circuits.statistics.estimate import Estimate, Statistic, estimates
from tasks.pairs import PairSet

FRACTIONS = (0.01, 0.1, 0.5)
"""Of the edges. All of them are the model itself: f = 1 there, without a run."""
RANKINGS: dict[Ranking, tuple[float, ...]] = {
    "signed": FRACTIONS,
    "absolute": FRACTIONS,
    "mixed": (SHARE,),
}
POSITIVE_RATIO = 0.8  # the mix that `choose_ranking` tries
SPLITS = 10  # of the pairs in halves
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


@dataclass(frozen=True)
class Bench:
    """A model on a task: what all methods are given, and the folder of their cells.

    pairs: that are scored on. judged: that circuits are judged on.
    """

    source: str
    model: HookedModel
    task: str
    pairs: PairSet
    judged: PairSet
    folder: Path

    @property
    def setting(self) -> Setting:
        """How many pairs there are, and which circuits are judged."""
        return Setting(score=len(self.pairs), judge=len(self.judged), shares=RANKINGS)

    def cell(self, name: str) -> Cell:
        """A method's cell, from its file if that is there; what it is made from is made first.

        Raises:
            CircuitsError: where the file is of another setting.
        """
        path = self.folder / f"{file_name(name)}.json"
        if not path.exists():
            cell = self._made(name)
            cell.save(path)
            return cell
        cell = Cell.load(path)
        if cell.setting != self.setting:
            raise CircuitsError(f"{path}: made with {cell.setting}; take another --out")
        return cell

    def _made(self, name: str) -> Cell:
        row, nothing = ROWS[name], self._refused(name, "")
        members = [self.cell(member) for member in row.members]
        refused = [f"{member.method}: {member.refused}" for member in members if member.refused]
        if refused:
            return self._refused(name, refused[0])
        start = time.process_time()
        try:
            scores = row.make(self.model, self.pairs, [self._scores(n) for n in row.members])
        except CircuitsError as error:
            return self._refused(name, str(error))
        seconds = time.process_time() - start
        replace(scores, per_example=None).save(self.folder / "scores", file_name(name))
        empty, size = Circuit.empty(scores.layout), _size(scores, SHARE)
        first_edges = edge_order(scores, "top-n", "signed")[:size]
        metric, right = _judged(self.model, self.judged, scores, row.strategy)
        return nothing.model_copy(
            update={
                "seconds": seconds + sum(member.seconds for member in members),
                "on_paths": weighted_edge_count(empty.with_only(first_edges)),
                "halves": _halves(scores, row.strategy),
                "metric": metric,
                "right": right,
            }
        )

    def _scores(self, name: str) -> EdgeScores:
        return EdgeScores.load(self.folder / "scores" / f"{file_name(name)}.safetensors")

    def _refused(self, name: str, reason: str) -> Cell:
        return Cell(
            model=self.source,
            task=self.task,
            method=name,
            setting=self.setting,
            refused=reason,
            n_edges=self.model.layout.n_edges,
        )


def _judged(
    model: HookedModel, pairs: PairSet, scores: EdgeScores, strategy: Strategy | None
) -> tuple[Float[Tensor, "pair run"], Float[Tensor, "pair run"]]:
    """Metric and whether it is right, of clean, corrupted, and the circuits of all rankings."""
    circuits = [
        Circuit.empty(scores.layout).with_only(order[: _size(scores, share)]).pruned()
        for ranking, shares in RANKINGS.items()
        for order in [
            edge_order(
                scores,
                strategy or DEFAULT_STRATEGIES["edge"],
                ranking,
                positive_ratio=POSITIVE_RATIO if ranking == "mixed" else None,
                join=True,
                first=_size(scores, shares[-1]),
            )
        ]
        for share in shares
    ]
    measured = measure(model, pairs, circuits)
    return measured.columns, measured.right


def _halves(scores: EdgeScores, strategy: Strategy | None) -> Estimate | None:
    """Likeness of the circuits of two halves of the pairs, by signed score."""
    of_pairs = scores.per_example
    if of_pairs is None or len(of_pairs) < 2 or bool((of_pairs == of_pairs[:1]).all()):
        return None
    return stability(
        scores,
        size=_size(scores, SHARE),
        strategy=strategy,
        ranking="signed",
        n_resamples=SPLITS,
    ).split_half_jaccard


def _size(scores: EdgeScores, share: float) -> int:
    return max(1, int(share * scores.layout.n_edges))


def file_name(name: str) -> str:
    """A method's name as that of its files, without an ending."""
    return name.replace(", ", "-").replace(" + ", "-and-").replace(" ", "-")
