"""Makes the cells of the table of methods: scores edges, and judges circuits by the scores."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float
from method_cells import RANKINGS, Cell, Setting
from method_rows import ROWS, SHARE
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation import measure, stability
from circuits.evaluation.mib import weighted_edge_count
from circuits.graph import Circuit, EdgeScores
from circuits.graph.levels import DEFAULT_STRATEGIES
from circuits.graph.orders import edge_order
from circuits.models import HookedModel
from circuits.options.choices import Strategy
from circuits.statistics.estimate import Estimate
from tasks.pairs import PairSet

POSITIVE_RATIO = 0.8  # the mix that `choose_ranking` tries
SPLITS = 10  # of the pairs in halves


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
