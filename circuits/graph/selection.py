"""From scores to a circuit."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Bool
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.circuit import Circuit
from circuits.graph.circuit_size import require_size
from circuits.graph.inlets import needed
from circuits.graph.orders import ORDERS, edge_order, top_mask
from circuits.graph.provenance import SelectionRecord, selected
from circuits.graph.rankings import RANKINGS, ranking_keys
from circuits.graph.scores import EdgeScores
from circuits.options.choices import Ranking, Strategy
from circuits.options.declared import require_known


def select(
    scores: EdgeScores,
    *,
    size: int | None = None,
    min_score: float | None = None,
    strategy: Strategy | Literal["threshold"] = "widest-path",
    ranking: Ranking = "absolute",
    positive_ratio: float | None = None,
    prune: bool = True,
) -> Circuit:
    """Choose edges by their scores.

    Args:
        scores: of all edges.
        size: how many edges; counted before pruning, as in the MIB benchmark.
        min_score: the least score of an edge, for strategy "threshold" in place of `size`.
        strategy: "widest-path", "top-n", "greedy" and "stable" take the first `size` edges of their
            order, which `circuits.graph.orders` describes; "threshold" takes all of at least
            `min_score`. "widest-path" gave the most faithful circuits where they were compared
            (docs/method.md).
        ranking: "absolute", which keeps edges that work against the behaviour too, "signed", or
            "mixed"; `circuits.choose_ranking` finds one on pairs of its own. By signed score,
            "widest-path" takes an edge that nearly all score depends on at its size, whatever its
            sign: the circuit's provenance names such edges as `joined`, and as `missing` where
            another strategy leaves them out.
        positive_ratio: for "mixed", the share taken by signed score, from 0 to 1.
        prune: drop the edges that lie on no path from input to logits.

    Returns:
        The circuit, which holds the scores and how it was chosen.

    Raises:
        CircuitsError: for settings that do not go together, and a size that the model does not
            have.
    """
    inlets: dict[str, tuple[str, ...]] = {}
    require_known("strategy", strategy, (*ORDERS, "threshold"))
    require_known("ranking", ranking, RANKINGS)
    if strategy == "threshold":
        if min_score is None or size is not None or positive_ratio is not None:
            raise CircuitsError(
                'strategy "threshold" takes min_score=, and no size= or positive_ratio='
            )
        mask = (ranking_keys(scores.matrix, ranking) >= min_score) & scores.mask
    else:
        if size is None or min_score is not None:
            raise CircuitsError(f'strategy "{strategy}" takes size=, and no min_score=')
        require_size(size, scores.layout.n_edges, "edge")
        order = edge_order(
            scores, strategy, ranking, positive_ratio=positive_ratio, join=True, first=size
        )
        mask = top_mask(order, scores.layout, size)
        inlets = {} if ranking == "absolute" else _inlets(scores, mask, strategy)
    selection = SelectionRecord(
        strategy=strategy,
        ranking=ranking,
        size=size,
        min_score=min_score,
        positive_ratio=positive_ratio,
        pruned=prune,
        **inlets,
    )
    circuit = Circuit(
        scores.layout, mask, scores.matrix, selected(scores.method, scores.provenance, selection)
    )
    return circuit.pruned() if prune else circuit


def _inlets(
    scores: EdgeScores, mask: Bool[Tensor, "source reader"], strategy: str
) -> dict[str, tuple[str, ...]]:
    """Edges of negative score that the rest stands on: put in whatever their sign, or left out."""
    edges = needed(scores.matrix, scores.layout)
    whole_paths = strategy == "widest-path"
    inside = (scores.layout.edge_name(*edge) for edge in edges if mask[edge] and whole_paths)
    outside = (scores.layout.edge_name(*edge) for edge in edges if not mask[edge])
    return {"joined": tuple(inside), "missing": tuple(outside)}
