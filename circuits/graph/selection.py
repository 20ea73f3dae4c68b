"""From scores to a circuit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.circuit import Circuit
from circuits.graph.inlets import needed
from circuits.graph.orders import ORDERS, edge_order, ranking_keys, top_mask
from circuits.graph.scores import EdgeScores


def select(
    scores: EdgeScores,
    *,
    size: int | None = None,
    threshold: float | None = None,
    strategy: str = "widest-path",
    ranking: str = "absolute",
    positive_ratio: float | None = None,
    prune: bool = True,
) -> Circuit:
    """Choose edges by their scores.

    strategy: "widest-path", "top-n", "greedy" and "stable" take the first `size` edges of their
        order, which `circuits.graph.orders` describes; "threshold" takes all of at least
        `threshold`. "widest-path" gave the most faithful circuits where they were compared
        (docs/method.md).
    ranking: "absolute", which keeps edges that work against the behaviour too, "signed", or
        "mixed", with positive_ratio= the share taken by signed score; `circuits.choose_ranking`
        finds one on pairs of its own. By signed score, "widest-path" takes an edge that nearly all
        score stands on at its size, whatever its sign: the circuit's details name such
        edges as `joined`, and as `missing` where another strategy leaves them out.
    prune: drop the edges that lie on no path from input to logits. `size` counts before pruning,
        as in the MIB benchmark.
    """
    said: dict[str, list[str]] = {}
    if strategy not in (*ORDERS, "threshold"):
        raise CircuitsError(f"unknown strategy {strategy!r}; known: {', '.join(ORDERS)}, threshold")
    if strategy == "threshold":
        if threshold is None or size is not None or positive_ratio is not None:
            raise CircuitsError(
                'strategy "threshold" takes threshold=, and no size= or positive_ratio='
            )
        mask = (ranking_keys(scores.matrix, ranking) >= threshold) & scores.mask
    else:
        if size is None or threshold is not None:
            raise CircuitsError(f'strategy "{strategy}" takes size=, and no threshold=')
        if not 0 <= size <= scores.layout.n_edges:
            raise CircuitsError(f"{size} edges asked for; this model has {scores.layout.n_edges}")
        order = edge_order(scores, strategy, ranking, positive_ratio=positive_ratio, join=True)
        mask = top_mask(order, scores.layout, size)
        said = {} if ranking == "absolute" else _inlets(scores, mask, strategy)
    details = {
        "strategy": strategy,
        "ranking": ranking,
        "size": size,
        "threshold": threshold,
        "pruned": prune,
        "method": scores.method,
        **({} if positive_ratio is None else {"positive_ratio": positive_ratio}),
        **said,
        **_model_of(scores),
    }
    circuit = Circuit(scores.layout, mask, scores.matrix, details)
    return circuit.pruned() if prune else circuit


def _inlets(
    scores: EdgeScores, mask: Bool[Tensor, "source reader"], strategy: str
) -> dict[str, Any]:
    """Edges of negative score that the rest stands on: put in whatever their sign, or left out."""
    edges = needed(scores.matrix, scores.layout)
    inside = [
        scores.layout.edge_name(*edge) for edge in edges if mask[edge] and strategy == "widest-path"
    ]
    outside = [scores.layout.edge_name(*edge) for edge in edges if not mask[edge]]
    return {
        **({"joined": inside} if inside else {}),
        **({"missing": outside} if outside else {}),
    }


def _model_of(scores: EdgeScores) -> dict[str, Any]:
    """Which model it is for, without the folders it lay in: equal runs give equal files."""
    model = scores.details.get("model")
    if not isinstance(model, dict) or "name" not in model:
        return {}
    return {"model": {**model, "name": Path(str(model["name"])).name}}
