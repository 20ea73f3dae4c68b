"""The linear maps in a model's layers that an adapter can be put on.

Names are read from the model's own modules, and relative to the layer (`attn.c_proj`, not
`c_proj`, which GPT-2 has twice).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import get_args

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from circuits.errors import CircuitsError
from circuits.importance import MapRole
from circuits.models.language import tower
from circuits.options.choices import AdapterPart
from circuits.options.tuning import PARTS

_FUSED: tuple[MapRole, ...] = ("q", "k", "v")
_PORTS: dict[str, tuple[MapRole, ...]] = {
    "c_attn": _FUSED,
    "qkv_proj": _FUSED,
    "query_key_value": _FUSED,
    "q_proj": ("q",),
    "k_proj": ("k",),
    "v_proj": ("v",),
}
_BARE_MLP = {"fc1", "fc2"}  # OPT's stand in the layer itself
_PART_OF: dict[MapRole, AdapterPart] = {
    "q": "q",
    "k": "k",
    "v": "v",
    "attention-output": "attention-output",
    "mlp-in": "mlp",
    "mlp-out": "mlp",
}
ROLES: tuple[MapRole, ...] = get_args(MapRole)


@dataclass(frozen=True)
class LinearMap:
    """One linear map. inputs, outputs: its widths. roles: what it does in its layer."""

    inputs: int
    outputs: int
    roles: tuple[MapRole, ...]

    def parameters(self, rank: int, *, dora: bool = False) -> int:
        """Trainable parameters of an adapter of this rank on it; none at rank 0."""
        magnitudes = self.outputs if dora and rank else 0
        return rank * (self.inputs + self.outputs) + magnitudes

    def in_parts(self, parts: Collection[str]) -> bool:
        """Whether it belongs to one of these parts; a fused one to q, k and v alike."""
        return any(_PART_OF[role] in parts for role in self.roles)


@dataclass(frozen=True)
class Projections:
    """The linear maps of a model's layers.

    stack: name of the list of layers within the model, e.g. `transformer.h`.
    maps: each map by its name within the layer, for each layer.
    conv1d: whether the maps are GPT-2's `Conv1D`, whose weight is the transpose of a `Linear`'s.
    dora: whether adapters have DoRA's magnitudes too, which count as parameters.
    """

    stack: str
    maps: tuple[dict[str, LinearMap], ...]
    conv1d: bool
    dora: bool = False

    @classmethod
    def of(
        cls, model: PreTrainedModel, parts: Collection[str] = PARTS, *, dora: bool = False
    ) -> Projections:
        """Read from the model's modules; an architecture without any is refused."""
        unknown = sorted(set(parts) - set(PARTS))
        if unknown or not parts:
            raise CircuitsError(f"adapter parts {unknown}: choose from {', '.join(PARTS)}")
        if any("lora_" in name for name, _ in model.named_modules()):
            raise CircuitsError("the model has LoRA adapters already; start from the plain model")
        n_layers = model.config.get_text_config().num_hidden_layers
        for stack, layers in _stacks(model):
            if len(layers) != n_layers:
                continue
            layer_maps = [dict(_maps(layer)) for layer in layers]
            if all(_has(PARTS, maps) for maps in layer_maps):
                conv1d = any(isinstance(module, Conv1D) for module in layers[0].modules())
                return cls(stack, tuple(layer_maps), conv1d, dora).only(parts)
        raise CircuitsError(
            f"{type(model).__name__}: found no list of {n_layers} layers that all have linear "
            f"projections of {', '.join(PARTS)}; write the peft.LoraConfig by hand"
        )

    def only(self, parts: Collection[str]) -> Projections:
        """The maps of some parts."""
        maps = (
            {name: linear_map for name, linear_map in layer.items() if linear_map.in_parts(parts)}
            for layer in self.maps
        )
        return replace(self, maps=tuple(maps))

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return len(self.maps)

    @property
    def all(self) -> dict[str, LinearMap]:
        """Every map by its name in the model."""
        return self.of_layers(range(self.n_layers))

    def of_layers(self, layers: Collection[int]) -> dict[str, LinearMap]:
        """The maps of some layers by their names in the model."""
        return {
            f"{self.stack}.{layer}.{name}": linear_map
            for layer in layers
            for name, linear_map in self.maps[layer].items()
        }

    def parameters(self, layers: Collection[int], rank: int) -> int:
        """Trainable parameters of adapters of this rank on these layers."""
        return self.count(dict.fromkeys(self.of_layers(layers), rank))

    def count(self, ranks: Mapping[str, int]) -> int:
        """Trainable parameters of adapters of these ranks, by the maps' names in the model."""
        maps = self.all
        return sum(maps[name].parameters(rank, dora=self.dora) for name, rank in ranks.items())

    def matching_rank(self, layers: Collection[int], parameters: int) -> int:
        """The rank, at least 1, whose adapters on these layers come nearest to this many."""
        rank_1, rank_2 = self.parameters(layers, 1), self.parameters(layers, 2)
        return max(1, round(1 + (parameters - rank_1) / (rank_2 - rank_1)))


def layers_of(ranks: Collection[str]) -> tuple[int, ...]:
    """The layers that named maps stand in, in order.

    Args:
        ranks: names of maps, or ranks by them.

    Returns:
        Layers.
    """
    matches = (re.search(r"\.(\d+)\.", name) for name in ranks)
    return tuple(sorted({int(match[1]) for match in matches if match}))


def linear_maps(module: nn.Module) -> Iterator[tuple[str, nn.Linear | Conv1D]]:
    """Every linear map inside a module, by its name there."""
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear | Conv1D):
            yield name, child


def pattern_of(model: PreTrainedModel, stack: str) -> str:
    """The end of a stack's name, as far as no other list of modules ends in it: PEFT would take a
    vision tower's `layers` for the language model's.
    """
    other_names = [
        f".{name}"
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and name != stack
    ]
    parts = stack.split(".")
    suffixes = (".".join(parts[start:]) for start in reversed(range(len(parts))))
    return next(
        (end for end in suffixes if not any(name.endswith(f".{end}") for name in other_names)),
        stack,
    )


def _stacks(model: PreTrainedModel) -> Iterator[tuple[str, nn.ModuleList]]:
    """Lists of modules in the language model, by name; a vision tower's are none of them."""
    inside = tower(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and (not inside or name.startswith(f"{inside}.")):
            yield name, module


def _maps(layer: nn.Module) -> Iterator[tuple[str, LinearMap]]:
    for name, module in linear_maps(layer):
        outputs, inputs = module.weight.shape
        if isinstance(module, Conv1D):
            outputs, inputs = inputs, outputs
        if roles := _roles(name, inputs, outputs):
            yield name, LinearMap(inputs, outputs, roles)


def _roles(name: str, inputs: int, outputs: int) -> tuple[MapRole, ...]:
    """What a linear map does in its layer, by its name there and its shape."""
    block, _, leaf = name.rpartition(".")
    if "mlp" in block or "feed_forward" in block or (not block and leaf in _BARE_MLP):
        return ("mlp-out",) if inputs > outputs else ("mlp-in",)
    if "attn" in block or "attention" in block:
        return _PORTS.get(leaf, ("attention-output",))
    return ()


def _has(parts: Collection[AdapterPart], layer: Mapping[str, LinearMap]) -> bool:
    return all(any(linear_map.in_parts((part,)) for linear_map in layer.values()) for part in parts)
