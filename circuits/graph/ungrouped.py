"""The same graph counted as MIB counts it: a k and a v reader for each query head.

Here the heads of a group share one reader; there each has a copy. How scores and circuits go from
one to the other, and why, stands in `interchange.py`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.graph.circuit import Circuit
from circuits.graph.layout import Layout
from circuits.graph.scores import EdgeScores

_SHARES = "information-flow"  # the method whose scores are shares of what a reader reads


def ungrouped(layout: Layout) -> Layout:
    """The same graph with a k and a v reader per query head, as MIB counts edges."""
    return replace(layout, n_kv_heads=layout.n_heads)


def ungrouped_share(circuit: Circuit) -> float:
    """Edges kept as a share of all edges, both counted ungrouped: MIB's percentage."""
    wide = ungrouped_circuit(circuit)
    return len(wide) / wide.layout.n_edges


def ungrouped_scores(scores: EdgeScores) -> EdgeScores:
    """Scores on the ungrouped graph, where each copy of a reader has its share (as in a file).

    Args:
        scores: of a model whose query heads share keys and values, or of any other.

    Returns:
        Scores of every edge as MIB counts them; the sum over copies is the edge's own score.
    """
    layout, wide = scores.layout, ungrouped(scores.layout)
    if wide == layout:
        return scores
    homes = reader_homes(wide, layout)
    imported = scores.provenance.imported
    averaged = imported is not None and imported.kv_reduction == "mean"
    undivided = scores.method == _SHARES or averaged
    values = (scores.matrix if undivided else scores.matrix / torch.bincount(homes))[:, homes]
    return EdgeScores(values, wide, scores.method, scores.provenance)


def ungrouped_circuit(circuit: Circuit) -> Circuit:
    """A circuit on the ungrouped graph: an edge becomes all of its copies.

    Args:
        circuit: of any graph.

    Returns:
        The circuit as MIB counts its edges.
    """
    wide = ungrouped(circuit.layout)
    homes = reader_homes(wide, circuit.layout)
    return Circuit(wide, circuit.mask[:, homes], None, circuit.provenance)


def reader_homes(wide: Layout, layout: Layout) -> Int[Tensor, " wide_reader"]:
    """For each reader of the ungrouped graph, the column of the reader it is a copy of.

    Args:
        wide: the ungrouped graph.
        layout: the graph that it is of.

    Returns:
        Columns of `layout`, in the order of the readers of `wide`.
    """
    group = layout.n_heads // layout.n_kv_heads
    columns = []
    for node in wide.reader_nodes:
        if node.layer is None:
            columns.append(layout.logits_column)
        elif node.head is None or node.port is None:
            columns.append(layout.mlp_column(node.layer))
        else:
            head = node.head if node.port == "q" else node.head // group
            columns.append(layout.port_columns(node.layer, node.port).start + head)
    return torch.tensor(columns)
