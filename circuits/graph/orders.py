"""Strategies by which edges enter a circuit, one after the other.

A strategy orders all edges once, best first, and a circuit of n edges is the first n: circuits of
one strategy and different sizes are nested.

- `top-n`        by worth alone.
- `widest-path`  path after path from input to logits, those first whose weakest edge is worth most,
                 so that pruning has next to nothing to take away.
- `greedy`       grows back from the logits, always by the best edge into a node that is in already
                 (Hanna et al. 2024).
- `stable`       edges first whose score keeps its sign in 95 % of bootstrap resamples over
                 examples; within both groups by worth (after Nikankin et al. 2025,
                 arXiv:2510.25786, who leave the unstable ones out). Needs per-example scores.

A ranking says what an edge is worth (`circuits.graph.rankings`). Whole paths by signed score may be
joined: an edge that nearly all score stands on counts at its size then, whatever its sign
(`circuits.graph.inlets`).
"""

from __future__ import annotations

import heapq
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.inlets import entries, joined
from circuits.graph.layout import Layout
from circuits.graph.rankings import mixed_order, ranking_keys, require_ranking
from circuits.graph.scores import EdgeScores
from circuits.options.choices import Ranking, Strategy
from circuits.options.declared import require_known
from circuits.runtime.mapped import columns

ORDERS: tuple[Strategy, ...] = get_args(Strategy)

Matrix = Float[Tensor, "source reader"]

_STABLE = 0.95
_RESAMPLES = 1000
_CHUNK = 2**22  # numbers held at once


def edge_order(
    scores: EdgeScores,
    strategy: Strategy = "widest-path",
    ranking: Ranking = "absolute",
    *,
    positive_ratio: float | None = None,
    join: bool = False,
    first: int | None = None,
) -> Int[Tensor, " edge"]:
    """The edges in the order of the strategy; ties in matrix order.

    The order is kept with the scores: asked for again, it costs nothing.

    Args:
        scores: of the edges.
        strategy: how the ranking becomes an order.
        ranking: what a score is worth.
        positive_ratio: for ranking `mixed` only: the share of the signed order, from 0 to 1.
        join: whether whole paths by signed score take edges that nearly all score stands on at
            their size; other strategies go by the scores as they are.
        first: give no more than so many edges: of a large model, whole paths to few edges cost a
            small part of those to all.

    Returns:
        Flat indices into the score matrix, best first.

    Raises:
        CircuitsError: for an unknown strategy or ranking, or a ratio that does not belong to it.
    """
    require_known("strategy", strategy, ORDERS)
    require_ranking(ranking, positive_ratio)
    per_example = scores.per_example
    versions = (scores.matrix._version, 0 if per_example is None else per_example._version)
    key = (strategy, ranking, positive_ratio, join, *versions)
    most = scores.layout.n_edges if first is None else min(first, scores.layout.n_edges)
    order = scores.orders.get(key)
    if order is None or len(order) < most:
        order = scores.orders[key] = _order(scores, strategy, ranking, positive_ratio, join, most)
    return order if len(order) == most else order[:most]


def _order(
    scores: EdgeScores,
    strategy: Strategy,
    ranking: Ranking,
    positive_ratio: float | None,
    join: bool,
    most: int,
) -> Int[Tensor, " edge"]:
    """The first `most` edges at least."""
    if positive_ratio is not None:
        signed = edge_order(scores, strategy, "signed", join=join, first=most)
        absolute = edge_order(scores, strategy, "absolute", first=most)
        return mixed_order(signed, absolute, positive_ratio)
    worth = ranking_keys(scores.matrix, ranking)
    if join and strategy == "widest-path" and ranking == "signed":
        worth = joined(worth, scores.layout)
    if strategy == "widest-path":
        return _whole_paths(worth, scores.layout, most)
    if strategy == "greedy":
        return _greedy(worth, scores.layout, most)
    if strategy == "stable":
        return _sorted(scores.layout, (sign_stability(scores) >= _STABLE).float(), worth)
    return _sorted(scores.layout, worth)


def top_mask(
    order: Int[Tensor, " edge"], layout: Layout, edges: int
) -> Bool[Tensor, "source reader"]:
    """The first edges of an order.

    Args:
        order: flat indices into the matrix, best first.
        layout: of the model, which gives the matrix its shape.
        edges: how many to take.

    Returns:
        True for those.
    """
    mask = torch.zeros(layout.shape, dtype=torch.bool)
    mask.view(-1)[order[:edges]] = True
    return mask


def sign_stability(scores: EdgeScores, *, seed: int = 0) -> Matrix:
    """Share of bootstrap resamples over examples in which an edge's mean score keeps its sign."""
    if scores.per_example is None:
        raise CircuitsError(
            "the stability of signs needs per-example scores; score with per_example=True "
            "(--per-example)"
        )
    examples = len(scores.per_example)
    example_indices = torch.arange(examples) if scores.drawn is None else scores.drawn
    n = len(example_indices)
    draws = torch.randint(n, (_RESAMPLES, n), generator=torch.Generator().manual_seed(seed))
    # How often each example is there: sums have the signs of means.
    weights = torch.zeros(_RESAMPLES, examples, dtype=torch.float64)
    weights.scatter_add_(1, example_indices[draws], torch.ones_like(draws, dtype=torch.float64))
    full_weights = example_indices.bincount(minlength=examples).double()
    stable_shares = []
    for _, block in columns(scores.per_example):
        for part in block.split(max(1, _CHUNK // _RESAMPLES), dim=1):
            values = part.double()
            stable_shares.append(
                ((weights @ values).sign() == (full_weights @ values).sign()).double().mean(dim=0)
            )
    return torch.cat(stable_shares).float().view(scores.layout.shape)


def _sorted(layout: Layout, *keys: Matrix) -> Int[Tensor, " edge"]:
    """Places of all edges by the first key, highest first; then by the second, and so on."""
    order = layout.mask.flatten().nonzero().flatten()
    for key in reversed(keys):
        order = order[torch.argsort(key.flatten()[order], descending=True, stable=True)]
    return order


def _whole_paths(worth: Matrix, layout: Layout, most: int) -> Int[Tensor, " edge"]:
    """Add path after path, those first whose weakest edge is worth most, to `most` edges.

    1. Going forward, the best path from input to each source; going back, from each reader to
       logits: each is as good as its weakest edge, and remembers the edge that it goes by.
    2. An edge is worth as much as the weakest of itself and the two paths at its ends.
    3. Edges enter in that order, each with what is missing of its path; all of that is worth at
       least as much. So at most one path is unfinished wherever the order is cut.
    """
    rows, columns = layout.shape
    entry, into = entries(worth, layout)
    values = worth.numpy()  # what follows is many steps on few numbers, which torch is slow at
    onward = np.full(columns, -np.inf, values.dtype)
    onward[layout.logits_column] = np.inf
    leads = np.full(rows, -np.inf, values.dtype)
    by = np.full(rows, -1)
    leave: dict[int, tuple[int, int]] = {}  # reader: the edge that its best path begins with
    # Back from the logits. A reader's node writes at its rows, and all who read those stand behind
    # it, so that their paths are known by now.
    for column in reversed(range(columns)):
        if layout.feeds[column]:
            row = max(layout.feeds[column], key=leads.__getitem__)
            onward[column], leave[column] = leads[row], (row, int(by[row]))
        seen = layout.rows_seen(column)
        through = np.minimum(values[seen, column], onward[column])
        by[seen][through > leads[seen]] = column  # a source's best path may go by this reader
        np.maximum(leads[seen], through, out=leads[seen])
    weakest = torch.minimum(into, torch.from_numpy(onward)[None, :])
    fed, leading = set(layout.roots), {layout.logits_column}  # joined to input, joined to logits
    taken: dict[int, None] = {}
    for index in _sorted(layout, weakest, worth).tolist():
        if index in taken:
            continue
        # The edge, then backward to a source that is joined to the input, then forward to a reader
        # that is joined to the logits.
        path = [divmod(index, columns)]
        while path[0][0] not in fed:
            path.insert(0, entry[path[0][0]])
        while path[-1][1] not in leading:
            path.append(leave[path[-1][1]])
        for row, column in path:
            taken[row * columns + column] = None
            fed.update(layout.feeds[column])
            leading.add(column)
        if len(taken) >= most:
            break
    return torch.tensor(list(taken)[:most], dtype=torch.long)


def _greedy(worth: Matrix, layout: Layout, most: int) -> Int[Tensor, " edge"]:
    """Grow from the logits, to `most` edges; a reader's become candidates when its node joins."""
    values = worth.tolist()
    width = layout.shape[1]
    columns_of: dict[int, list[int]] = {}
    for column, rows in enumerate(layout.feeds):
        for row in rows:
            columns_of.setdefault(row, []).append(column)
    frontier: list[tuple[float, int, int]] = []
    opened: set[int] = set()

    def open_column(column: int) -> None:
        if column not in opened:
            opened.add(column)
            for row in layout.visible(column):
                heapq.heappush(frontier, (-values[row][column], row, column))

    order: list[int] = []
    open_column(layout.logits_column)
    while frontier and len(order) < most:
        _, row, column = heapq.heappop(frontier)
        order.append(row * width + column)
        for upstream in columns_of.get(row, ()):
            open_column(upstream)
    return torch.tensor(order, dtype=torch.long)
