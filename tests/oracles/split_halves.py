"""Reliability by the book: every split of the examples in two halves, one after the other."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor


def spearman_brown(scores: Tensor, times: float = 1.0) -> float:
    """Reliability of the mean of `times` as many rows, from all splits of (example, edge) in two.

    Covariances and variances are averaged over the splits before they are divided.
    """
    rows = range(len(scores))
    covariances, variances = [], []
    for first in combinations(rows, len(scores) // 2):
        halves = [
            scores[list(half)].mean(dim=0) for half in (first, [i for i in rows if i not in first])
        ]
        matrix = torch.cov(torch.stack(halves))
        covariances.append(float(matrix[0, 1]))
        variances.append(float(matrix.diagonal().mean()))
    half = sum(covariances) / sum(variances)
    longer = 2 * times
    return longer * half / (1 + (longer - 1) * half)
