"""Scores as other draws of their examples would give them, and how alike two circuits are.

No draw is a copy of the examples: each is a row of weights, and the mean scores of many draws come
of one walk over the examples' scores, which may be in a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from circuits.graph import AnyScores, NodeScores
from circuits.runtime import mapped

Chosen = Bool[Tensor, " choice"]
"""Which edges (nodes, neurons) a circuit holds."""
_MEANS = 2**26  # numbers held at once


def drawn(scores: AnyScores, draws: Sequence[Int[Tensor, " drawn"]]) -> Iterator[AnyScores]:
    """For each draw, the scores of the examples at these places, some perhaps several times."""
    per_example = scores.per_example
    assert per_example is not None
    counts = torch.stack([draw.bincount(minlength=len(per_example)) for draw in draws]).double()
    weights = counts / counts.sum(dim=1, keepdim=True)
    numbers = per_example[0].numel()
    chunk = max(1, _MEANS // numbers)
    for start in range(0, len(draws), chunk):
        part = weights[start : start + chunk]
        means = torch.empty(len(part), numbers)
        for columns, values in mapped.columns(per_example):
            means[:, columns] = part @ values.double()
        for indices, mean in zip(draws[start : start + chunk], means, strict=True):
            yield _with(scores, mean.view(per_example.shape[1:]), indices)


def with_values(scores: AnyScores, values: Tensor) -> AnyScores:
    """Other values in the scores' place, of no examples."""
    return _with(scores, values, None)


def _with(scores: AnyScores, values: Tensor, indices: Int[Tensor, " drawn"] | None) -> AnyScores:
    if isinstance(scores, NodeScores):
        return replace(scores, values=values, per_example=None, blocks=None)
    per_example = None if indices is None else scores.per_example
    values = values * scores.mask
    return replace(scores, matrix=values, per_example=per_example, blocks=None, drawn=indices)


def jaccard(a: Chosen, b: Chosen) -> float:
    """What both hold over what either does; 1 for two empty circuits."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
