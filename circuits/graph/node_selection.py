"""From scores of nodes or neurons to a circuit."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.graph.circuit_size import require_size
from circuits.graph.node_circuit import NodeCircuit
from circuits.graph.node_scores import NodeScores
from circuits.graph.provenance import SelectionRecord, selected
from circuits.graph.rankings import mixed_order, ranking_keys, require_ranking
from circuits.options.choices import Ranking


def node_order(
    scores: NodeScores,
    ranking: Ranking = "absolute",
    *,
    positive_ratio: float | None = None,
    first: int | None = None,
) -> Int[Tensor, " unit"]:
    """Indices of all nodes (or neurons), best first, without what enters the model.

    Args:
        scores: of nodes or of neurons.
        ranking: "absolute"; "signed", which takes last what works against the behaviour; or
            "mixed".
        positive_ratio: for "mixed" only: the share of the signed order, from 0 to 1.
        first: give no more than so many; None gives all.

    Returns:
        The indices.

    Raises:
        CircuitsError: for another ranking, or a ratio that does not belong to it.
    """
    require_ranking(ranking, positive_ratio)
    if positive_ratio is not None:
        signed, absolute = (
            node_order(scores, name, first=first) for name in ("signed", "absolute")
        )
        return mixed_order(signed, absolute, positive_ratio)
    order = torch.argsort(ranking_keys(scores.values, ranking), descending=True, stable=True)
    return order[~scores.units.roots[order]][:first]


def select_nodes(
    scores: NodeScores,
    size: int,
    *,
    ranking: Ranking = "absolute",
    positive_ratio: float | None = None,
) -> NodeCircuit:
    """Choose the best nodes, or neurons, by their scores.

    Args:
        scores: of nodes or of neurons.
        size: how many; what enters the model is kept besides and does not count.
        ranking: "absolute", which loses in small circuits where what works against the behaviour
            is large (docs/benchmarks.md); "signed", which takes that last; or "mixed".
            `circuits.choose_ranking` finds one on pairs of its own.
        positive_ratio: for "mixed", the share taken by signed score, from 0 to 1.

    Returns:
        The circuit, which holds the scores and how it was chosen.

    Raises:
        CircuitsError: for a size that the model does not have, and settings that do not go
            together.
    """
    nothing = NodeCircuit.inputs_only(scores.units)
    require_size(size, len(nothing.candidates), scores.units.level)
    order = node_order(scores, ranking, positive_ratio=positive_ratio, first=size)
    selection = SelectionRecord(
        strategy="top-n", ranking=ranking, size=size, positive_ratio=positive_ratio
    )
    provenance = selected(scores.method, scores.provenance, selection)
    return replace(nothing.with_only(order), scores=scores.values, provenance=provenance)
