"""The MIB benchmark's circuit track, by its own counting (Mueller et al. 2025, arXiv:2504.13151).

f at .1, .2, .5, 1, 2, 5, 10, 20, 50 and 100 % of the edges, and two areas over that share:

- **CPR**, area under f, of circuits that take edges by signed score; higher is better.
- **CMD**, area under |1 - f|, of circuits that take edges by absolute score; lower is better.

What is counted as there (`evaluate_area_under_curve`, and `Graph` of its package eap):

- **Edges** are those of the ungrouped graph: every query head has a k and a v of its own, also
  where heads share them. Such a model runs as a twin with repeated projections
  (`models/ungrouped.py`), and scores of shared edges are divided over the copies.
- A share k of N edges is the first int(k N) of the ranking, `top-n`; ties are in matrix order
  (there in any).
- **Weighted edge count.** After one round of pruning: edges of nodes that nothing enters or leaves
  go, edges that are left hanging by that stay in the count, though they are gone when the circuit
  runs. `kept` is the number that runs.
- Instead of scores a submission may hold nine circuits: f of each, in the order of their edge
  counts, at the nine shares below 100 %, and the whole model at the last.

Only edges: node and neuron circuits have other files there (`graph/accounting.py`). On Gemma 2 and
3 a head's share behind the norm that follows attention is defined otherwise here (docs/method.md),
so that f between the ends can differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from circuits.errors import CircuitsError
from circuits.evaluation.faithfulness import FRACTIONS, curve_statistic
from circuits.evaluation.measure import measure
from circuits.graph import Circuit, EdgeScores
from circuits.graph.orders import edge_order
from circuits.graph.submission import SHARES
from circuits.graph.ungrouped import ungrouped, ungrouped_circuit, ungrouped_scores
from circuits.models import HookedModel
from circuits.models.ungrouped import ungrouped_twin
from circuits.options.choices import Ranking
from circuits.options.run import RunOptions
from circuits.runtime.result_file import Record, ResultFile
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairSet

_RANKINGS: tuple[Ranking, ...] = ("signed", "absolute")


class MIBCurve(Record):
    """Circuits of one ranking, or those of a submission.

    Attributes:
        edge_counts: at each share, as MIB counts them (`weighted_edge_counts` there).
        kept: how many of them run.
        faithfulness: f at each share.
        area_under: area under f.
        area_from_1: area under |1 - f|.
    """

    edge_counts: tuple[float, ...]
    kept: tuple[int, ...]
    faithfulness: tuple[Estimate, ...]
    area_under: Estimate
    area_from_1: Estimate

    @property
    def average(self) -> float:
        """The mean of f over the shares."""
        return sum(f.value for f in self.faithfulness) / len(self.faithfulness)


class MIBEvaluation(ResultFile):
    """What MIB says of scores or circuits on one model and one task.

    Attributes:
        model: its name. task, split: of the pairs. fingerprint: of them all.
        n: pairs. n_edges: all edges, counted ungrouped. metric: its name.
        metric_clean, metric_corrupted: its means over both runs of the whole model.
        fractions: shares of the edges.
        signed: circuits by signed score, for CPR; of a submission of circuits, these.
        absolute: circuits by absolute score, for CMD; of a submission of circuits, these again.
    """

    KIND: ClassVar[str] = "mib-evaluation"
    SCHEMA_VERSION: ClassVar[int] = 2

    model: str
    task: str
    split: str
    fingerprint: str
    n: int
    n_edges: int
    metric: str
    metric_clean: float
    metric_corrupted: float
    fractions: tuple[float, ...]
    signed: MIBCurve
    absolute: MIBCurve

    @property
    def cpr(self) -> Estimate:
        """Area under f by signed score: higher is better."""
        return self.signed.area_under

    @property
    def cmd(self) -> Estimate:
        """Area under |1 - f| by absolute score: lower is better."""
        return self.absolute.area_from_1

    def in_mibs_form(self) -> dict[str, dict[str, list[float]]]:
        """The figures as MIB's results hold them for one task.

        Returns:
            By "CPR" and "CMD", the edge counts and f at each share.
        """
        return {
            name: {
                "edge_counts": list(curve.edge_counts),
                "faithfulness": [f.value for f in curve.faithfulness],
            }
            for name, curve in (("CPR", self.signed), ("CMD", self.absolute))
        }


def mib_evaluation(
    model: HookedModel,
    scores_or_circuits: EdgeScores | Sequence[Circuit],
    pairs: PairSet,
    *,
    metric: str | None = None,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> MIBEvaluation:
    """Evaluate edge scores, or nine circuits, as the benchmark does.

    Args:
        model: what the scores are of.
        scores_or_circuits: scores of edges, of this model's graph or of its ungrouped one (a file
            of MIB's read without `kv_heads`); or nine circuits, in any order.
        pairs: of a task of MIB (`mib-ioi`, ...), or of any other.
        metric: its name; None takes the pairs' own, of MIB's tasks the logit difference.
        options: batches, seed, progress; the seed is of the bootstrap.
        resume: keeps what was measured until the whole is done.

    Returns:
        CPR and CMD with what they are made of, with 95 % intervals over the pairs.

    Raises:
        UndefinedMetricError: where clean and corrupted metric are equal.
        CircuitsError: where the scores or circuits are not of this model's graph, or there are not
            nine circuits.
    """
    options = options or RunOptions()
    wide = ungrouped(model.layout)
    if isinstance(scores_or_circuits, EdgeScores):
        scores = ungrouped_scores(scores_or_circuits)
        _require(model, scores.layout == wide, scores.layout.summary)
        selected = {name: _by_score(scores, name) for name in _RANKINGS}
        counts = {
            name: tuple(float(weighted_edge_count(circuit)) for circuit in line)
            for name, line in selected.items()
        }
    else:
        circuits = [ungrouped_circuit(circuit) for circuit in scores_or_circuits]
        if len(circuits) != len(SHARES):
            raise CircuitsError(
                f"{len(circuits)} circuits; MIB takes scores, or {len(SHARES)} circuits of "
                f"at most {', '.join(f'{share:.1%}' for share in SHARES)} of the edges"
            )
        for circuit in circuits:
            _require(model, circuit.layout == wide, circuit.layout.summary)
        line = (*sorted(circuits, key=len), Circuit.full(wide))
        selected = dict.fromkeys(_RANKINGS, line)
        counts = dict.fromkeys(_RANKINGS, tuple(float(len(circuit)) for circuit in line))
    pruned = {name: [circuit.pruned() for circuit in line] for name, line in selected.items()}
    measured = measure(
        ungrouped_twin(model),
        pairs,
        [circuit for line in pruned.values() for circuit in line],
        metric=metric,
        options=options,
        progress="MIB" if options.progress else None,
        resume=resume,
    )
    axis = torch.tensor(FRACTIONS, dtype=torch.float64)
    curves = {}
    for index, name in enumerate(_RANKINGS):
        columns = measured.of(range(index * len(FRACTIONS), (index + 1) * len(FRACTIONS)))
        *f, under, from_1, _ = estimates(columns, curve_statistic(1, axis), seed=options.seed)
        curves[name] = MIBCurve(
            edge_counts=counts[name],
            kept=tuple(len(circuit) for circuit in pruned[name]),
            faithfulness=tuple(f),
            area_under=under,
            area_from_1=from_1,
        )
    return MIBEvaluation(
        model=model.name,
        task=pairs.task,
        split=pairs.split,
        fingerprint=pairs.fingerprint,
        n=len(pairs),
        n_edges=wide.n_edges,
        metric=measured.metric,
        metric_clean=float(measured.clean.mean()),
        metric_corrupted=float(measured.corrupted.mean()),
        fractions=FRACTIONS,
        signed=curves["signed"],
        absolute=curves["absolute"],
    )


def weighted_edge_count(circuit: Circuit) -> int:
    """Edges of a circuit that was just selected, as MIB counts them: after one round of pruning.

    Args:
        circuit: not pruned.

    Returns:
        The edges whose two nodes each have an edge in and one out; the input needs none in, the
        logits none out.
    """
    layout, mask = circuit.layout, circuit.mask
    entered = torch.zeros(layout.shape[0], dtype=torch.bool)
    entered[list(layout.roots)] = True
    for column in mask.any(dim=0).nonzero().flatten().tolist():
        entered[list(layout.feeds[column])] = True
    inside = mask.any(dim=1) & entered
    reached = torch.zeros(layout.shape[1], dtype=torch.bool)
    for column, rows in enumerate(layout.feeds):
        reached[column] = column == layout.logits_column or bool(inside[list(rows)].any())
    return int((mask & inside[:, None] & reached[None, :]).sum())


def _by_score(scores: EdgeScores, ranking: Ranking) -> tuple[Circuit, ...]:
    """The circuits of MIB's shares, not pruned."""
    order, nothing = edge_order(scores, "top-n", ranking), Circuit.empty(scores.layout)
    sizes = [int(share * scores.layout.n_edges) for share in FRACTIONS]
    return tuple(nothing.with_only(order[:size]) for size in sizes)


def _require(model: HookedModel, of_this: bool, theirs: str) -> None:
    if not of_this:
        raise CircuitsError(
            f"{model.name} has {model.layout.summary}; the scores or circuits are of {theirs}"
        )
