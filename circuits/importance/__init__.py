"""Which layers, and which of their linear maps, matter: by edges of a circuit, or by how much two
models differ in each layer.
"""

from circuits.importance.agreement import CriticalLayers, compare_criteria
from circuits.importance.changes import LayerChanges, ResampledChanges, edge_change
from circuits.importance.layers import (
    LayerImportance,
    critical_layers,
    importance_from_circuit,
    importance_from_edges,
)
from circuits.importance.maps import (
    MapImportance,
    MapRole,
    RoleImportance,
    importance_of_maps,
)

__all__ = [
    "CriticalLayers",
    "LayerChanges",
    "LayerImportance",
    "MapImportance",
    "MapRole",
    "ResampledChanges",
    "RoleImportance",
    "compare_criteria",
    "critical_layers",
    "edge_change",
    "importance_from_circuit",
    "importance_from_edges",
    "importance_of_maps",
]
