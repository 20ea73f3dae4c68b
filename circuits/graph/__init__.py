"""Names, scores and circuits: the graph without the model."""

from circuits.graph.circuit import Circuit
from circuits.graph.layout import Layout, Node
from circuits.graph.scores import EdgeScores
from circuits.graph.selection import ranked_edges, select, top_mask

__all__ = ["Circuit", "EdgeScores", "Layout", "Node", "ranked_edges", "select", "top_mask"]
