"""Edges without which nearly nothing of what was scored is reached from the input.

Attribution to first order can give such an edge the wrong sign: on SmolLM2 and indirect objects,
EAP gives `input->m0` -.29 where EAP-IG gives +9.8, and a ranking by signed score then leaves out
what all the others stand on. The sign of an edge says what the rest of the model makes of its
corruption; that the rest gets its input through it is seen in the sizes.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.graph.layout import Layout

DEPENDENT = 0.5
"""Share of all score behind an edge from which on the rest counts as standing on it."""

Matrix = Float[Tensor, "source reader"]
Entries = dict[int, tuple[int, int]]


def entries(worth: Matrix, layout: Layout) -> tuple[Entries, Matrix]:
    """The edge by which the best path from the input reaches each source, and how good the best
    path is that ends with each edge: as good as its weakest edge.
    """
    rows, columns = layout.shape
    values = worth.numpy()  # what follows is many steps on few numbers, which torch is slow at
    reached = np.full(rows, -np.inf, values.dtype)
    reached[list(layout.roots)] = np.inf
    into = np.full_like(values, -np.inf)
    entry: Entries = {}
    for column in range(columns):
        seen = layout.rows_seen(column)
        np.minimum(values[seen, column], reached[seen], out=into[seen, column])
        fed = layout.feeds[column]
        if not fed:
            continue
        best = seen.start + int(into[seen, column].argmax())
        value = into[best, column]
        for row in fed:
            if row not in entry or value > reached[row]:
                reached[row], entry[row] = value, (best, column)
    return entry, torch.from_numpy(into)


def needed(matrix: Matrix, layout: Layout) -> tuple[tuple[int, int], ...]:
    """Edges of negative score that the best paths to the sources of at least half of all score
    begin with or go through, paths being ranked by the size of their scores.
    """
    sizes = matrix.abs().masked_fill(~layout.mask, 0.0)
    entry, _ = entries(sizes, layout)
    behind = sizes.double().sum(dim=1)  # score of what each source, and all that it leads to, gives
    behind[list(layout.roots)] = 0.0
    total = float(behind.sum())
    through: dict[tuple[int, int], float] = {}
    for row in sorted(entry, reverse=True):
        row_before, _ = edge = entry[row]
        through[edge] = through.get(edge, 0.0) + float(behind[row])
        if row_before not in layout.roots:
            behind[row_before] += behind[row]
    return tuple(
        edge
        for edge in sorted(through)
        if float(matrix[edge]) < 0 and through[edge] >= DEPENDENT * total > 0
    )


def joined(matrix: Matrix, layout: Layout) -> Matrix:
    """The scores with `needed` edges at their size: what a ranking by signed score goes by."""
    edges = needed(matrix, layout)
    if not edges:
        return matrix
    matrix = matrix.clone()
    for edge in edges:
        matrix[edge] = matrix[edge].abs()
    return matrix
