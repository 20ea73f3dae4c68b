"""The conditions of a comparison that have names: what each of them trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from circuits.errors import CircuitsError
from circuits.importance import LayerImportance, MapImportance
from circuits.model_diff.diff import EDGES
from circuits.options.choices import AdapterPart, LoraCondition
from circuits.tuning.lora_targets import LoraTarget

ORIGINAL_LAYERS = 3
ORIGINAL_RANK = 8
ORIGINAL_RATE = 5e-5
ORIGINAL_BATCH = 16
ORIGINAL_PARTS: tuple[AdapterPart, ...] = ("q", "v")


def lora_targets(
    conditions: Sequence[LoraCondition],
    importance: Mapping[str, LayerImportance],
    maps: MapImportance,
    k: int,
) -> tuple[LoraTarget, ...]:
    """The conditions of a comparison, by their names.

    - `circuit`, `attention-kl`, `entropy`, `hidden-state`: the k layers that matter most by that.
    - `modules`: linear maps by how much of the circuit runs through them, anywhere in the model.
    - `heads`: as `modules`, but of an attention's maps only the heads that most of the circuit runs
      through are trained, anywhere in the model: as many as k layers have, at most.
    - `complement`: every layer that `circuit` leaves out.
    - `random`: k layers, drawn for each run.
    - `standard`: all layers. `full`: all weights, without an adapter.
    - `original-circuit`, `original-standard`: rank 8 on queries and values of the three layers that
      matter most to the circuit, and of all layers, at a learning rate of 5e-5 and 16 examples a
      step, whatever number of parameters that gives: the comparison as it was first reported.

    Args:
        conditions: which, in the order in which they are compared.
        importance: of layers, by criterion; that of the circuit is called edges.
        maps: importance of linear maps to the circuit.
        k: how many layers.

    Returns:
        What each of them trains.

    Raises:
        CircuitsError: where a criterion was not measured, where fewer than k layers have any
            importance by it, and where the circuit leaves no layer to its complement.
    """
    return tuple(_target(name, importance, maps, k) for name in conditions)


def _target(
    name: LoraCondition, importance: Mapping[str, LayerImportance], maps: MapImportance, k: int
) -> LoraTarget:
    if name == "standard":
        return LoraTarget.standard()
    if name == "random":
        return LoraTarget.random(k)
    if name == "full":
        return LoraTarget("full", full=True, criterion="all weights")
    if name == "modules":
        return LoraTarget("modules", maps=maps, criterion=f"{maps.criterion}, by map")
    if name == "heads":
        strongest = maps.strongest_heads(k * maps.heads_a_layer)
        return LoraTarget(
            "heads", maps=strongest, by_head=True, criterion=f"{maps.criterion}, by head"
        )
    if name == "complement":
        return _complement(importance[EDGES], k)
    if name in ("original-circuit", "original-standard"):
        edges = importance[EDGES]
        n_original = min(ORIGINAL_LAYERS, len(edges.values))
        layers = edges.largest(n_original) if name == "original-circuit" else None
        return LoraTarget(
            name,
            layers,
            criterion=edges.criterion if layers else "all layers",
            parts=ORIGINAL_PARTS,
            rank=ORIGINAL_RANK,
            learning_rate=ORIGINAL_RATE,
            batch_size=ORIGINAL_BATCH,
        )
    criterion = EDGES if name == "circuit" else name
    if criterion not in importance:
        raise CircuitsError(f"condition {name!r}: {criterion} was not measured")
    return LoraTarget.important(name, importance[criterion], k)


def _complement(edges: LayerImportance, k: int) -> LoraTarget:
    """The layers that the condition `circuit` leaves out."""
    circuit_layers = LoraTarget.important("circuit", edges, k).layers or ()
    layers = tuple(layer for layer in range(len(edges.values)) if layer not in circuit_layers)
    if not layers:
        raise CircuitsError(
            f"condition 'complement': the circuit takes all {k} layers; give fewer layers"
        )
    return LoraTarget("complement", layers, criterion="not the circuit's")
