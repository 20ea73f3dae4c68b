"""Which layers matter: by edges of a circuit, or by how much two models differ in each layer."""

from circuits.importance.agreement import CriticalLayers, compare_criteria
from circuits.importance.changes import LayerChanges, ResampledChanges, edge_change
from circuits.importance.layers import (
    LayerImportance,
    critical_layers,
    importance_from_circuit,
    importance_from_edges,
)

__all__ = [
    "CriticalLayers",
    "LayerChanges",
    "LayerImportance",
    "ResampledChanges",
    "compare_criteria",
    "critical_layers",
    "edge_change",
    "importance_from_circuit",
    "importance_from_edges",
]
