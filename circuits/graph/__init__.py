"""Names, scores and circuits: the graph without the model."""

from circuits.graph.circuit import Circuit
from circuits.graph.layout import Layout, Node
from circuits.graph.node_scores import NodeScores
from circuits.graph.orders import edge_order, top_mask
from circuits.graph.scores import EdgeScores
from circuits.graph.selection import select

__all__ = [
    "Circuit",
    "EdgeScores",
    "Layout",
    "Node",
    "NodeScores",
    "edge_order",
    "select",
    "top_mask",
]
