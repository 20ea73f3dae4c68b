"""LoRAs that train chosen heads of an attention, and leave the others as they are.

PEFT adapts whole matrices: W + s B A. But an output of the matrix depends on one row of B, and an
input on one column of A. A head's queries, keys and values are outputs of their maps, and what the
head writes goes in as inputs of the attention's output. So a LoRA in which the rows of B (the
columns of A) of all other heads are 0 changes the chosen heads' weights and no others, exactly.
They are 0 when training begins, and stay so because their gradients are set to 0: AdamW then adds
0 / (0 + eps). What is saved is a LoRA like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from circuits.errors import CircuitsError
from circuits.importance import MapImportance, MapRole
from circuits.models.architecture import describe
from circuits.tuning.projections import LinearMap, Projections
from circuits.tuning.targets import plain_name, trainable_parameters


@dataclass(frozen=True)
class HeadSlice:
    """Where a head stands in a linear map of its attention.

    node: the head's name, as a reader (`a0.h3<q>`, `a0.kv1<k>`) or as a source (`a0.h3`).
    map: the linear map's name in the model.
    layer, role, head: which head it is; KV heads of k and v.
    start, size: its features: outputs of q, k and v, inputs of the attention's output.
    """

    node: str
    map: str
    layer: int
    role: MapRole
    head: int
    start: int
    size: int

    @property
    def reads(self) -> bool:
        """Whether its features are outputs of the map."""
        return self.role != "attention-output"


HeadsByMap = Mapping[str, Sequence[HeadSlice]]
"""Heads by the linear maps that they stand in."""

_RESTRICTED: WeakKeyDictionary[nn.Module, tuple[str, ...]] = WeakKeyDictionary()
"""Of each adapter that trains in part, the nodes of the heads that train: no weight shows them."""


def head_slices(model: PreTrainedModel) -> tuple[HeadSlice, ...]:
    """Every head of every attention, once for each of its maps.

    Args:
        model: a causal model, without an adapter.

    Returns:
        In the order of the model: queries, keys, values, then outputs of each layer.

    Raises:
        CircuitsError: for a model whose heads cannot be told apart.
    """
    return tuple(_slices(model))


def _slices(model: PreTrainedModel) -> Iterator[HeadSlice]:
    view = describe(model)
    names = {module: name for name, module in model.named_modules()}
    readers, sources, size = view.layout.readers, view.layout.sources, view.d_head
    for attention in view.attentions:
        place = attention.place
        for projection, columns in zip(attention.projections, place.columns, strict=True):
            for head in range(projection.n_heads):
                yield HeadSlice(
                    readers[columns.start + head],
                    names[projection.module],
                    place.layer,
                    projection.port,
                    head,
                    projection.offset + head * projection.stride,
                    size,
                )
        for head in range(attention.n_heads):
            yield HeadSlice(
                sources[place.rows.start + head],
                names[attention.output],
                place.layer,
                "attention-output",
                head,
                head * size,
                size,
            )


def important_heads(
    slices: Sequence[HeadSlice], importance: MapImportance
) -> dict[str, tuple[HeadSlice, ...]]:
    """The heads that have any importance, by the names of their maps."""
    values = {(known.layer, known.role): known.heads for known in importance.roles}
    heads: dict[str, tuple[HeadSlice, ...]] = {}
    for head in slices:
        by_head = values.get((head.layer, head.role))
        if by_head is not None and by_head[head.head] > 0:
            heads[head.map] = (*heads.get(head.map, ()), head)
    return heads


def narrowed(projections: Projections, heads: HeadsByMap) -> Projections:
    """The maps of an adapter that trains these heads, with the widths that train; MLPs whole.

    Maps of an attention without any of the heads are left out.
    """
    maps = tuple(
        {
            name: _narrowed(linear_map, heads.get(f"{projections.stack}.{layer}.{name}", ()))
            for name, linear_map in layer_maps.items()
            if linear_map.in_parts(("mlp",)) or heads.get(f"{projections.stack}.{layer}.{name}")
        }
        for layer, layer_maps in enumerate(projections.maps)
    )
    return replace(projections, maps=maps)


def _narrowed(linear_map: LinearMap, heads: Sequence[HeadSlice]) -> LinearMap:
    if not heads:
        return linear_map
    width = sum(head.size for head in heads)
    reads = heads[0].reads
    return replace(linear_map, outputs=width) if reads else replace(linear_map, inputs=width)


@dataclass(frozen=True)
class TrainedHeads:
    """An adapter that trains chosen heads alone.

    model: with the adapter.
    masks: of each matrix of the adapter that is restricted, by its name in the model, what of it
        trains.
    """

    model: PeftModel
    masks: dict[str, Bool[Tensor, "row column"]]

    @property
    def parameters(self) -> int:
        """How many parameters training changes."""
        held = sum(int((~mask).sum()) for mask in self.masks.values())
        return trainable_parameters(self.model) - held

    def require_others_unchanged(self) -> None:
        """Refuse an adapter that changes the weights of any other head.

        Raises:
            CircuitsError: with the matrix of the adapter in which the others are not 0.
        """
        for name, mask in self.masks.items():
            if bool(self.model.get_parameter(name).detach()[~mask].any()):
                raise CircuitsError(
                    f"{name}: it changes heads that were not to be trained; train in float32 with "
                    "AdamW, in one process"
                )


def train_heads_alone(model: PeftModel, heads: HeadsByMap) -> TrainedHeads:
    """Restrict the adapters of some maps to some of their heads.

    Args:
        model: with adapters on these maps and any others, as `wrap` makes them; changed in place.
            Others stay as they are.
        heads: of each map that is restricted, the heads that are trained.

    Returns:
        What trains; after training, `require_others_unchanged` proves what was promised.

    Raises:
        CircuitsError: for a DoRA, which scales whole rows, and for a map without an adapter.
    """
    masks: dict[str, Tensor] = {}
    adapters = {
        plain_name(name): (name, module)
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    for map_name, chosen in heads.items():
        if map_name not in adapters:
            raise CircuitsError(f"{map_name}: it has no adapter that could be restricted to heads")
        name, module = adapters[map_name]
        if module.use_dora.get("default"):
            raise CircuitsError(f"{map_name}: a DoRA scales whole rows; heads need dora=False")
        side, matrices = ("B", module.lora_B) if chosen[0].reads else ("A", module.lora_A)
        linear = matrices["default"]
        assert isinstance(linear, nn.Linear)
        masks[f"{name}.lora_{side}.default.weight"] = _restrict(linear.weight, chosen)
        _RESTRICTED[model.get_submodule(name)] = tuple(head.node for head in chosen)
    return TrainedHeads(model, masks)


def trained_heads(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The heads that train, of each map whose adapter `train_heads_alone` restricted.

    Args:
        model: with adapters or without.

    Returns:
        Nodes, by the names of maps in the plain model.
    """
    return {
        plain_name(name): _RESTRICTED[module]
        for name, module in model.named_modules()
        if module in _RESTRICTED
    }


def _restrict(weight: Tensor, heads: Sequence[HeadSlice]) -> Bool[Tensor, "row column"]:
    """Zero what belongs to other heads, and its gradients from now on; gives what trains."""
    mask = torch.zeros_like(weight, dtype=torch.bool)
    for head in heads:
        features = slice(head.start, head.start + head.size)
        mask[features if head.reads else (slice(None), features)] = True
    with torch.no_grad():
        weight.masked_fill_(~mask, 0)
    weight.register_hook(partial(_only, mask))
    return mask


def _only(mask: Bool[Tensor, "row column"], gradient: Tensor) -> Tensor:
    """The gradient where the mask is True, and 0 elsewhere, whatever it was there."""
    return gradient.masked_fill(~mask.to(gradient.device), 0)
