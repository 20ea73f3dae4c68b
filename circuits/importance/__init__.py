"""Which layers matter: by edges of a circuit, or by how much two models differ in each layer."""

from circuits.importance.layers import (
    LayerImportance,
    critical_layers,
    importance_from_circuit,
    importance_from_edges,
)

__all__ = [
    "LayerImportance",
    "critical_layers",
    "importance_from_circuit",
    "importance_from_edges",
]
