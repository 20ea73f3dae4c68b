"""From scores to a circuit: top-n, threshold, greedy from the logits."""

from __future__ import annotations

import heapq

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.circuit import Circuit
from circuits.graph.layout import Layout
from circuits.graph.scores import EdgeScores


def select(
    scores: EdgeScores,
    *,
    edges: int | None = None,
    threshold: float | None = None,
    rule: str = "top-n",
    ranking: str = "absolute",
    prune: bool = True,
) -> Circuit:
    """Choose edges by their scores.

    rule: "top-n" takes the `edges` highest; "threshold" all of at least `threshold`; "greedy" grows
        a connected circuit back from the logits, always taking the highest edge into a node already
        in it, until it has `edges` (the greedy search of Hanna et al. 2024).
    ranking: by absolute score, which keeps edges that work against the behaviour too, or signed.
    prune: drop the edges that lie on no path from input to logits. `edges` counts before pruning,
        as in the MIB benchmark.
    """
    keys = ranking_keys(scores.matrix, ranking)
    if rule == "threshold":
        if threshold is None or edges is not None:
            raise CircuitsError('rule "threshold" takes threshold=, and no edges=')
        mask = (keys >= threshold) & scores.mask
    elif rule in ("top-n", "greedy"):
        if edges is None or threshold is not None:
            raise CircuitsError(f'rule "{rule}" takes edges=, and no threshold=')
        if not 0 <= edges <= scores.layout.n_edges:
            raise CircuitsError(f"{edges} edges asked for; this model has {scores.layout.n_edges}")
        mask = (
            top_mask(ranked_edges(scores, ranking), scores.layout, edges)
            if rule == "top-n"
            else _greedy(keys, scores.layout, edges)
        )
    else:
        raise CircuitsError(f"unknown rule {rule!r}; known: top-n, threshold, greedy")
    details = {
        "rule": rule,
        "ranking": ranking,
        "edges": edges,
        "threshold": threshold,
        "pruned": prune,
        "method": scores.method,
    }
    circuit = Circuit(scores.layout, mask, scores.matrix, details)
    return circuit.pruned() if prune else circuit


def ranking_keys(
    matrix: Float[Tensor, "source reader"], ranking: str
) -> Float[Tensor, "source reader"]:
    """What edges are ordered by, highest first."""
    if ranking == "absolute":
        return matrix.abs()
    if ranking == "signed":
        return matrix
    raise CircuitsError(f"unknown ranking {ranking!r}; known: absolute, signed")


def ranked_edges(scores: EdgeScores, ranking: str) -> Int[Tensor, " edge"]:
    """Flat matrix places of all edges, best first; ties in matrix order."""
    places = scores.mask.flatten().nonzero().flatten()
    keys = ranking_keys(scores.matrix, ranking).flatten()[places]
    return places[torch.argsort(keys, descending=True, stable=True)]


def top_mask(
    ranked: Int[Tensor, " edge"], layout: Layout, edges: int
) -> Bool[Tensor, "source reader"]:
    """The first `edges` of a ranking as a mask."""
    mask = torch.zeros(layout.shape, dtype=torch.bool)
    mask.view(-1)[ranked[:edges]] = True
    return mask


def _greedy(
    keys: Float[Tensor, "source reader"], layout: Layout, edges: int
) -> Bool[Tensor, "source reader"]:
    """Grow from the logits; a reader's edges become candidates when its node joins."""
    mask = torch.zeros(layout.shape, dtype=torch.bool)
    values = keys.tolist()
    columns_of: dict[int, list[int]] = {}
    for column, rows in enumerate(layout.feeds):
        for row in rows:
            columns_of.setdefault(row, []).append(column)
    frontier: list[tuple[float, int, int]] = []
    opened: set[int] = set()

    def open_column(column: int) -> None:
        if column in opened:
            return
        opened.add(column)
        for row in layout.visible(column):
            heapq.heappush(frontier, (-values[row][column], row, column))

    open_column(layout.logits_column)
    for _ in range(edges):
        if not frontier:
            break
        _, row, column = heapq.heappop(frontier)
        mask[row, column] = True
        for upstream in columns_of.get(row, ()):
            open_column(upstream)
    return mask
