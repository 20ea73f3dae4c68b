"""What happens to the metric when one edge alone is corrupted, edge by edge, several side by side.

    effect of an edge = metric of the clean run - metric with this one edge corrupted

and everything else live. Positive: the edge supports the behaviour; units are the metric's. It is
what the gradient methods estimate to first order.

Runs start from the reader's layer. Those that stand side by side share the place in the stream that
their readers read, so that none of them reads what another one changed: what each source wrote is
needed as it was in the clean run alone.

Source: path patching of single edges (Goldowsky-Dill et al. 2023, "Localizing Model Behavior with
Path Patching"). Cost: the layers from each edge's reader on, once for each edge and batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.graph import Layout
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.metrics import Metric
from circuits.runtime.limits import readers_side_by_side

EdgeIndex = tuple[int, int]


def single_edge_effects(
    runner: BatchedCircuitRunner, metric: Metric, edges: Sequence[EdgeIndex]
) -> Iterator[tuple[list[int], Float[Tensor, "batch some"]]]:
    """The effect of each of some edges on every example.

    Args:
        runner: of the batch, with nothing settled.
        metric: any; it need not have a gradient.
        edges: row and column of each edge.

    Yields:
        Which of `edges`, and their effects; each edge once, in no order that matters.
    """
    layout, batch = runner.model.layout, runner.batch
    clean = metric(runner.clean, batch, runner.clean)
    for indices in edges_together(runner, edges):
        keep = layout.mask.repeat(len(indices), 1, 1)
        for copy, index in enumerate(indices):
            keep[copy][edges[index]] = False
        metrics = [metric(logits, batch, runner.clean) for logits in runner.logits(keep)]
        yield indices, clean[:, None] - torch.stack(metrics, dim=1)


def edges_together(runner: BatchedCircuitRunner, edges: Sequence[EdgeIndex]) -> Iterator[list[int]]:
    """Edges to be run together: as many as are worth it, of few readers that read one place."""
    view, batch = runner.view, runner.batch
    position = view.d_model * runner.model.hf.dtype.itemsize
    stream = runner.width * batch.clean.numel() * position
    readers = readers_side_by_side(stream, batch.clean.device.type)
    order = sorted(range(len(edges)), key=lambda index: (edges[index][1], edges[index][0]))
    for _, group in groupby(order, key=lambda index: _where(view.layout, edges[index][1])):
        indices: list[int] = []
        columns: set[int] = set()
        for index in group:
            column = edges[index][1]
            new = len(columns | {column}) > readers
            if len(indices) == runner.width or new:
                yield indices
                indices, columns = [], set()
            indices.append(index)
            columns.add(column)
        yield indices


def _where(layout: Layout, column: int) -> int:
    """What all readers of one place in the stream have in common: the sources before it."""
    return layout.visible(column).stop
