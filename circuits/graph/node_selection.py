"""From scores of nodes or neurons to a circuit."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.circuit_size import require_size
from circuits.graph.node_circuit import NodeCircuit
from circuits.graph.node_scores import NodeScores
from circuits.graph.provenance import SelectionRecord, selected
from circuits.options.choices import Ranking

_RANKINGS = ("absolute", "signed")


def node_order(scores: NodeScores, ranking: Ranking = "absolute") -> Int[Tensor, " unit"]:
    """Indices of all nodes (or neurons), best first, without what enters the model.

    Args:
        scores: of nodes or of neurons.
        ranking: "absolute", or "signed", which takes last what works against the behaviour.

    Returns:
        The indices.

    Raises:
        CircuitsError: for another ranking.
    """
    if ranking not in _RANKINGS:
        raise CircuitsError(
            f"unknown ranking of {scores.units.level}s {ranking!r}; known: {', '.join(_RANKINGS)}"
        )
    worth = scores.values.abs() if ranking == "absolute" else scores.values
    order = torch.argsort(worth, descending=True, stable=True)
    return order[~scores.units.roots[order]]


def select_nodes(scores: NodeScores, size: int, *, ranking: Ranking = "absolute") -> NodeCircuit:
    """Choose the best nodes, or neurons, by their scores.

    Args:
        scores: of nodes or of neurons.
        size: how many; what enters the model is kept besides and does not count.
        ranking: "absolute", or "signed", which takes last what works against the behaviour.

    Returns:
        The circuit, which holds the scores and how it was chosen.

    Raises:
        CircuitsError: for a size that the model does not have.
    """
    order = node_order(scores, ranking)
    require_size(size, len(order), scores.units.level)
    selection = SelectionRecord(strategy="top-n", ranking=ranking, size=size)
    provenance = selected(scores.method, scores.provenance, selection)
    circuit = NodeCircuit.inputs_only(scores.units).with_only(order[:size])
    return replace(circuit, scores=scores.values, provenance=provenance)
