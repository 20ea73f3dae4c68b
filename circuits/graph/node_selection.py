"""From scores of nodes or neurons to a circuit."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.node_circuit import NodeCircuit
from circuits.graph.node_scores import NodeScores
from circuits.graph.provenance import SelectionRecord, selected

_RANKINGS = ("absolute", "signed")


def node_order(scores: NodeScores, ranking: str = "absolute") -> Int[Tensor, " unit"]:
    """Places of all nodes (or units), best first, without what enters the model.

    ranking: "absolute", or "signed", which takes last what works against the behaviour.
    """
    if ranking not in _RANKINGS:
        raise CircuitsError(
            f"unknown ranking of {scores.units.level}s {ranking!r}; known: {', '.join(_RANKINGS)}"
        )
    worth = scores.values.abs() if ranking == "absolute" else scores.values
    order = torch.argsort(worth, descending=True, stable=True)
    return order[~scores.units.roots[order]]


def select_nodes(scores: NodeScores, n: int, *, ranking: str = "absolute") -> NodeCircuit:
    """The n best nodes, or units of nodes, and what enters the model, which does not count."""
    order = node_order(scores, ranking)
    if not 0 <= n <= len(order):
        raise CircuitsError(f"{n} {scores.units.level}s asked for; this model has {len(order)}")
    selection = SelectionRecord(strategy="top-n", ranking=ranking, size=n)
    made = selected(scores.method, scores.provenance, selection)
    chosen = NodeCircuit.inputs_only(scores.units).with_only(order[:n])
    return replace(chosen, scores=scores.values, provenance=made)
