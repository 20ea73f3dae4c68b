"""The importance of each layer, by whatever criterion, and the k largest of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from circuits.errors import CircuitsError
from circuits.graph import Circuit, Node


@dataclass(frozen=True)
class LayerImportance:
    """One number of at least 0 for each layer; larger matters more.

    criterion: where the numbers come from ("edges", "attention-kl", ...), for tables and reports.
    values: by layer, in the order of the model.
    """

    criterion: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise CircuitsError(f"{self.criterion}: no layers")
        for layer, value in enumerate(self.values):
            if not (math.isfinite(value) and value >= 0):
                raise CircuitsError(
                    f"{self.criterion}: the importance of layer {layer} is {value}; "
                    "it must be a finite number of at least 0"
                )

    @property
    def ranking(self) -> tuple[int, ...]:
        """Layers from the most important to the least; the lower first among equals."""
        return tuple(
            sorted(range(len(self.values)), key=lambda layer: (-self.values[layer], layer))
        )

    @property
    def positive(self) -> int:
        """How many layers have any importance."""
        return sum(value > 0 for value in self.values)

    def largest(self, k: int) -> tuple[int, ...]:
        """At most k layers, the most important ones, in the order of the model; none of them 0.

        Args:
            k: how many.

        Returns:
            Layers.
        """
        return tuple(sorted(self.ranking[: min(k, self.positive)]))


def critical_layers(importance: LayerImportance, k: int) -> tuple[int, ...]:
    """The k most important layers.

    Args:
        importance: one number a layer.
        k: how many layers.

    Returns:
        The layers, in the order of the model.

    Raises:
        CircuitsError: where fewer than k layers have any importance, since the rest would be
            chosen by their position alone.
    """
    n_layers = len(importance.values)
    if not 1 <= k <= n_layers:
        raise CircuitsError(
            f"{k} critical layers of {n_layers}: k must lie between 1 and {n_layers}"
        )
    if not any(importance.values):
        raise CircuitsError(
            f"{importance.criterion}: every layer has importance 0, so none is critical"
        )
    if importance.positive < k:
        raise CircuitsError(
            f"{importance.criterion}: {k} critical layers asked for, and only "
            f"{importance.positive} of {n_layers} have any importance; ask for at most "
            f"{importance.positive}"
        )
    return importance.largest(k)


def importance_from_edges(
    weights: Mapping[str, float], n_layers: int, *, criterion: str = "edges"
) -> LayerImportance:
    """Layer importance from edges: absolute scores, summed by layer.

    An edge counts half for the layer of its source and half for the layer of its reader. `input`
    and `logits` belong to no layer, so their half is dropped.

    Args:
        weights: score by edge name (`a0.h3->a1.h2<q>`, `m2->logits`); the sign is dropped.
        n_layers: layers of the model.
        criterion: what to call the importance.

    Returns:
        The importance of every layer, in the unit of the scores.

    Raises:
        CircuitsError: where a name is no edge of a model with so many layers.
    """
    totals = [0.0] * n_layers
    for edge, weight in weights.items():
        source, arrow, reader = edge.partition("->")
        if not arrow:
            raise CircuitsError(f"edge {edge!r}: its name has no '->'")
        for node in (source, reader):
            layer = Node.parse(node).layer
            if layer is None:
                continue
            if layer >= n_layers:
                raise CircuitsError(f"edge {edge!r}: the model has only {n_layers} layers")
            totals[layer] += abs(float(weight)) / 2
    return LayerImportance(criterion, tuple(totals))


def importance_from_circuit(circuit: Circuit, *, criterion: str = "circuit") -> LayerImportance:
    """Layer importance from the edges of a circuit, as `importance_from_edges` counts them.

    Args:
        circuit: a circuit of edges; each counts by its |score|, or 1 where the circuit has none.
        criterion: what to call the importance.

    Returns:
        The importance of every layer.
    """
    weights = {
        edge: 1.0 if circuit.scores is None else float(circuit.scores[circuit.layout.edge(edge)])
        for edge in circuit.edges
    }
    return importance_from_edges(weights, circuit.layout.n_layers, criterion=criterion)
