"""Scores as other draws of their examples would give them, and how alike two circuits are."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Bool, Int
from torch import Tensor

from circuits.graph import AnyScores, NodeScores

Chosen = Bool[Tensor, " choice"]
"""Which edges (nodes, neurons) a circuit holds."""


def drawn(scores: AnyScores, places: Int[Tensor, " drawn"]) -> AnyScores:
    """The scores of the examples at these places."""
    assert scores.per_example is not None
    examples = scores.per_example[places]
    return with_values(scores, examples.double().mean(dim=0).float(), examples)


def with_values(scores: AnyScores, values: Tensor, per_example: Tensor | None) -> AnyScores:
    """Other values in the scores' place."""
    if isinstance(scores, NodeScores):
        return replace(scores, values=values, per_example=per_example, blocks=None)
    return replace(scores, matrix=values * scores.mask, per_example=per_example, blocks=None)


def jaccard(a: Chosen, b: Chosen) -> float:
    """What both hold over what either does; 1 for two empty circuits."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
