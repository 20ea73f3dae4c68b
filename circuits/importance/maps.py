"""The importance of each linear map of a model: how much of a circuit runs through it.

Finer than layers: queries, keys, values, the attention's output, and what an MLP reads and writes,
each of its own, and of an attention's maps every head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from circuits.errors import CircuitsError
from circuits.graph import Circuit, Node

MapRole = Literal["q", "k", "v", "attention-output", "mlp-in", "mlp-out"]
"""What a linear map does in its layer; a fused projection has several roles."""
_MLP_ROLES: tuple[MapRole, ...] = ("mlp-in", "mlp-out")


@dataclass(frozen=True)
class RoleImportance:
    """How much runs through the maps of one role in one layer.

    Attributes:
        layer: the layer.
        role: of the maps in it.
        heads: by head, at least 0; KV heads of k and v, and one number of an MLP.
    """

    layer: int
    role: MapRole
    heads: tuple[float, ...]

    @property
    def total(self) -> float:
        """Over the heads."""
        return math.fsum(self.heads)


@dataclass(frozen=True)
class MapImportance:
    """How much runs through each role of each layer.

    Attributes:
        criterion: where the numbers come from, for tables and reports.
        n_layers: layers of the model.
        roles: those through which anything runs; the others have importance 0.
    """

    criterion: str
    n_layers: int
    roles: tuple[RoleImportance, ...]

    def __post_init__(self) -> None:
        for importance in self.roles:
            if not all(math.isfinite(value) and value >= 0 for value in importance.heads):
                raise CircuitsError(
                    f"{self.criterion}: the importance of {importance.role} in layer "
                    f"{importance.layer} is {list(importance.heads)}; each must be a finite number "
                    "of at least 0"
                )

    def of(self, layer: int, role: MapRole) -> float:
        """The importance of one role in one layer.

        Args:
            layer: the layer.
            role: the role.

        Returns:
            A number of at least 0, in the unit of the scores.
        """
        return math.fsum(r.total for r in self.roles if (r.layer, r.role) == (layer, role))

    @property
    def heads_a_layer(self) -> int:
        """Heads of one layer, counted once for each of its attention's roles that have any
        importance anywhere.
        """
        widths = {r.role: len(r.heads) for r in self.roles if r.role not in _MLP_ROLES}
        return sum(widths.values())

    def strongest_heads(self, k: int) -> MapImportance:
        """The same where only the k heads of largest importance have any; MLPs keep theirs.

        A head counts once for each of its maps: its queries may be among the k and its values not.

        Args:
            k: how many, at least 1. Of equals the one of the earlier layer and role is taken.

        Returns:
            The importance, all of it on those heads and on MLPs.
        """
        by_value = sorted(
            (-value, role_index, head)
            for role_index, importance in enumerate(self.roles)
            if importance.role not in _MLP_ROLES
            for head, value in enumerate(importance.heads)
        )
        strongest = {(role_index, head) for _, role_index, head in by_value[:k]}
        roles = tuple(
            importance
            if importance.role in _MLP_ROLES
            else replace(
                importance,
                heads=tuple(
                    value if (role_index, head) in strongest else 0.0
                    for head, value in enumerate(importance.heads)
                ),
            )
            for role_index, importance in enumerate(self.roles)
        )
        return replace(self, roles=roles)


def importance_of_maps(circuit: Circuit, *, criterion: str = "circuit") -> MapImportance:
    """The importance of linear maps from the edges of a circuit: |score| by what it runs through.

    An edge counts half for the map that writes its source (an attention's output for that head, or
    what an MLP writes) and half for the one that its reader stands for (q, k or v of a head, or
    what an MLP reads). A layer's roles add up to its importance by `importance_from_edges`.

    Args:
        circuit: a circuit of edges of a decoder-only model; each counts by its |score|, or 1 where
            the circuit has none.
        criterion: what to call the importance.

    Returns:
        The importance of every role through which an edge runs.

    Raises:
        CircuitsError: for a circuit of an encoder-decoder.
    """
    layout, totals = circuit.layout, dict[tuple[int, MapRole], list[float]]()
    for edge in circuit.edges:
        weight = 1.0 if circuit.scores is None else float(circuit.scores[layout.edge(edge)])
        source, _, reader = edge.partition("->")
        for node, writes in ((Node.parse(source), True), (Node.parse(reader), False)):
            if node.encoder or node.cross:
                raise CircuitsError(
                    f"{edge}: of an encoder-decoder; linear maps are ranked in decoder-only models"
                )
            if node.layer is None:
                continue
            role: MapRole
            if node.kind == "mlp":
                role, heads = "mlp-out" if writes else "mlp-in", 1
            elif node.port is None:
                role, heads = "attention-output", layout.n_heads
            else:
                role = node.port
                heads = layout.n_heads if role == "q" else layout.n_kv_heads
            total = totals.setdefault((node.layer, role), [0.0] * heads)
            total[node.head or 0] += abs(weight) / 2
    roles = (RoleImportance(*key, tuple(heads)) for key, heads in sorted(totals.items()))
    return MapImportance(criterion, layout.n_layers, tuple(roles))
