"""Scores of edges, nodes and neurons: one method a file, on one engine."""

from circuits.attribution.attribute import attribute
from circuits.attribution.edge_effects import patch_edges
from circuits.attribution.nodes import attribute_nodes
from circuits.attribution.registry import METHODS, cost_of, method

__all__ = ["METHODS", "attribute", "attribute_nodes", "cost_of", "method", "patch_edges"]
