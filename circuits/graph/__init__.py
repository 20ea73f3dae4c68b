"""Names, scores and circuits: the graph without the model."""

from circuits.graph.circuit import Circuit
from circuits.graph.layout import Layout
from circuits.graph.levels import AnyCircuit, AnyScores, load_scores
from circuits.graph.node import Node
from circuits.graph.node_circuit import NodeCircuit
from circuits.graph.node_scores import NodeScores
from circuits.graph.node_selection import node_order, select_nodes
from circuits.graph.orders import edge_order, top_mask
from circuits.graph.provenance import Provenance
from circuits.graph.scores import EdgeScores
from circuits.graph.selection import select
from circuits.graph.units import Units

__all__ = [
    "AnyCircuit",
    "AnyScores",
    "Circuit",
    "EdgeScores",
    "Layout",
    "Node",
    "NodeCircuit",
    "NodeScores",
    "Provenance",
    "Units",
    "edge_order",
    "load_scores",
    "node_order",
    "select",
    "select_nodes",
    "top_mask",
]
