"""Which projections of a model get a LoRA adapter, as a `peft.LoraConfig`.

`wrap` looks at what PEFT did, because PEFT does not always heed `layers_to_transform` (peft #427)
and says nothing when it does not.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from circuits.errors import CircuitsError
from circuits.graph import Circuit
from circuits.importance import (
    LayerImportance,
    MapImportance,
    critical_layers,
    importance_from_circuit,
)
from circuits.models import HookedModel
from circuits.models.adapters import quiet_peft
from circuits.options.tuning import PARTS
from circuits.tuning.projections import Projections, layers_of, linear_maps, pattern_of
from circuits.tuning.ranks import ranks_by_importance

Target = Sequence[int] | Mapping[str, int] | LayerImportance | MapImportance | Circuit | None
SCALE = 2.0
_RSLORA_RANK = 8  # at which rank-stabilised LoRA has the same scale


def lora_config(
    target: Target,
    model: PreTrainedModel | HookedModel,
    rank: int = 8,
    *,
    k: int | None = None,
    parts: Collection[str] = PARTS,
    dropout: float = 0.0,
    rslora: bool = False,
    dora: bool = False,
) -> LoraConfig:
    """A LoRA on some parts of a model.

    The adapter's scale is 2 at any rank, so that adapters of unequal rank learn at like speed.

    Args:
        target: the layers; or an importance of layers, of which the `k` largest are taken; or a
            circuit, whose edges give that importance; or an importance of linear maps
            (`circuits.importance_of_maps`), which get ranks in its proportion; or the rank of each
            map by its name in the model; or None for all layers.
        model: the model that the configuration is for.
        rank: of the adapter. By an importance of maps, of the one on all layers whose number of
            parameters this one has.
        k: how many layers by importance. None takes half of them, or as many as have any.
        parts: which projections of a layer: "q", "k", "v", "attention-output", "mlp". A model that
            keeps q, k and v in one, as GPT-2 does, has them adapted together.
        dropout: of the adapter's input.
        rslora: a scale of 2 at rank 8 that falls with the square root of the rank (rank-stabilised
            LoRA, Kalajdzievski 2023).
        dora: each output's magnitude learnt apart from its direction (DoRA, Liu et al. 2024).

    Returns:
        A configuration for `peft.get_peft_model`, or for `wrap`, which checks what PEFT did.

    Raises:
        CircuitsError: for layers, maps, a rank, a k or parts that the model does not have.
    """
    network = model.hf if isinstance(model, HookedModel) else model
    projections = Projections.of(network, parts, dora=dora)
    if rank < 1:
        raise CircuitsError(f"rank {rank}: it must be at least 1")
    if k is not None and not isinstance(target, LayerImportance | Circuit):
        raise CircuitsError("k chooses among layers by importance; give an importance, or no k")
    if isinstance(target, MapImportance):
        budget = projections.parameters(range(projections.n_layers), rank)
        target = ranks_by_importance(projections, target, budget)
    layers, other_ranks = None, dict[str, int]()
    if isinstance(target, Mapping):
        names = _known(target, projections)
        [(rank, _)] = Counter(target.values()).most_common(1)
        other_ranks = {name: map_rank for name, map_rank in target.items() if map_rank != rank}
    else:
        layers = list(_layers(target, projections.n_layers, k))
        names = sorted({name for layer in layers for name in projections.maps[layer]})
    alpha: float = SCALE * math.sqrt(_RSLORA_RANK) if rslora else round(SCALE * rank)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # any number will do, and JSON keeps it
        rank_pattern=other_ranks,
        alpha_pattern={}
        if rslora
        else {name: round(SCALE * map_rank) for name, map_rank in other_ranks.items()},
        lora_dropout=dropout,
        use_rslora=rslora,
        use_dora=dora,
        target_modules=names,
        layers_to_transform=layers,
        layers_pattern=None if layers is None else pattern_of(network, projections.stack),
        fan_in_fan_out=projections.conv1d,
    )


def _layers(
    target: Sequence[int] | LayerImportance | Circuit | None, n_layers: int, k: int | None
) -> tuple[int, ...]:
    """Layers to adapt, in order."""
    if isinstance(target, Circuit):
        target = importance_from_circuit(target)
    if isinstance(target, LayerImportance):
        if len(target.values) != n_layers:
            raise CircuitsError(
                f"{target.criterion}: importance of {len(target.values)} layers for a model of "
                f"{n_layers}"
            )
        default_k = max(1, min(n_layers // 2, target.positive))
        return critical_layers(target, default_k if k is None else k)
    layers = tuple(range(n_layers)) if target is None else tuple(sorted(set(target)))
    if not layers or not 0 <= layers[0] <= layers[-1] < n_layers:
        raise CircuitsError(f"layers {list(layers)}: the model has layers 0 to {n_layers - 1}")
    return layers


def _known(ranks: Mapping[str, int], projections: Projections) -> list[str]:
    """The names of the maps that get an adapter."""
    unknown = sorted(set(ranks) - set(projections.all))
    if unknown or not ranks:
        raise CircuitsError(
            f"maps {unknown}: name linear maps of the model's layers, such as "
            f"{next(iter(projections.all))}"
        )
    least = min(ranks, key=lambda name: ranks[name])
    if ranks[least] < 1:
        raise CircuitsError(f"rank {ranks[least]} of {least}: it must be at least 1")
    return sorted(ranks)


def wrap(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """`peft.get_peft_model`, and a check that exactly the wanted projections got an adapter.

    `model` is changed in place, also when the check fails. PEFT draws the initial weights from
    torch's global generator: seed it for a repeatable adapter.
    """
    expected = _wanted(model, config)
    path = model.config.name_or_path or None
    commit = getattr(model.config, "_commit_hash", None)  # of a hub model; a folder has none
    with quiet_peft():
        wrapped = get_peft_model(model, config)
    wrapped.peft_config["default"].base_model_name_or_path = path
    wrapped.peft_config["default"].revision = commit
    adapted = adapter_ranks(wrapped)
    if adapted.keys() != expected.keys():
        missing, extra = (
            sorted(expected.keys() - adapted.keys()),
            sorted(adapted.keys() - expected.keys()),
        )
        raise CircuitsError(
            "the adapter does not sit where the configuration says: "
            f"missing on {missing or 'none'}, unasked on {extra or 'none'}; "
            "make the configuration with lora_config"
        )
    if mismatched := [name for name in expected if adapted[name] != expected[name]]:
        raise CircuitsError(
            f"the adapter on {mismatched[0]} has rank {adapted[mismatched[0]]}, and the "
            f"configuration asks for {expected[mismatched[0]]}; make the configuration with "
            "lora_config"
        )
    stray = [n for n, p in wrapped.named_parameters() if p.requires_grad and "lora_" not in n]
    if stray:
        raise CircuitsError(f"parameters outside the adapter would be trained too: {stray}")
    return wrapped


def adapter_ranks(model: nn.Module) -> dict[str, int]:
    """The rank of every adapter of a wrapped model, by the name of its map in the plain model."""
    return {
        plain_name(name): int(module.r["default"])
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }


def plain_name(name: str) -> str:
    """What a module of a wrapped model is called in the plain one."""
    return name.removeprefix("base_model.model.")


def adapted_layers(model: nn.Module) -> tuple[int, ...]:
    """Layers of a wrapped model that hold an adapter."""
    return layers_of(adapter_ranks(model))


def trainable_parameters(model: nn.Module) -> int:
    """Number of parameters that training would change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _wanted(model: PreTrainedModel, config: LoraConfig) -> dict[str, int]:
    """The projections that a configuration asks for, by their full names, and their ranks."""
    targets, layers = config.target_modules, config.layers_to_transform
    if targets is None or isinstance(targets, str):
        raise CircuitsError("target_modules must be a list of names; use lora_config")
    stack, ranks = Projections.of(model).stack, config.rank_pattern or {}
    layer_set = {layers} if isinstance(layers, int) else None if layers is None else set(layers)
    target_ranks = {}
    for name, _ in linear_maps(model):
        match = re.match(rf"{re.escape(stack)}\.(\d+)\.", name)
        inside = layer_set is None or (match is not None and int(match[1]) in layer_set)
        if inside and any(name == target or name.endswith(f".{target}") for target in targets):
            target_ranks[name] = ranks.get(name, config.r)
    return target_ranks
