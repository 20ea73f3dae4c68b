"""Scores of edges, nodes and neurons: one method a file, on one engine."""

from circuits.attribution.attribute import METHODS, attribute, method
from circuits.attribution.nodes import attribute_nodes

__all__ = ["METHODS", "attribute", "attribute_nodes", "method"]
