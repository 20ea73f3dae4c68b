"""Which projections of which layers get a LoRA adapter, as a `peft.LoraConfig`.

Names are read from the model's own modules, and relative to the layer (`attn.c_proj`, not
`c_proj`, which GPT-2 has twice). `wrap` looks at what PEFT did, because PEFT does not always
heed `layers_to_transform` (peft #427) and says nothing when it does not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from circuits.errors import CircuitsError
from circuits.graph import Circuit
from circuits.importance import LayerImportance, critical_layers, importance_from_circuit
from circuits.models import HookedModel
from circuits.models.adapters import quiet_peft
from circuits.models.language import tower
from circuits.options.choices import AdapterPart
from circuits.options.tuning import PARTS

_QKV = {"c_attn", "q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value"}
_BARE_MLP = {"fc1", "fc2"}  # OPT's stand in the layer itself


@dataclass(frozen=True)
class Projections:
    """The linear maps in a model's layers that an adapter can be put on.

    stack: name of the list of layers within the model, e.g. `transformer.h`.
    sizes: inputs + outputs of each map, by its name within the layer, for each layer; LoRA of rank
        r adds r times that many parameters.
    conv1d: whether the maps are GPT-2's `Conv1D`, whose weight is the transpose of a `Linear`'s.
    """

    stack: str
    sizes: tuple[dict[str, int], ...]
    conv1d: bool

    @classmethod
    def of(cls, model: PreTrainedModel, parts: Collection[str] = PARTS) -> Projections:
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
            found = [
                {name: m for name, m in _linear(layer) if _part(name) in parts} for layer in layers
            ]
            if all({_part(name) for name in one} == set(parts) for one in found):
                sizes = tuple({n: sum(m.weight.shape) for n, m in one.items()} for one in found)
                return cls(stack, sizes, isinstance(next(iter(found[0].values())), Conv1D))
        raise CircuitsError(
            f"{type(model).__name__}: found no list of {n_layers} layers that all have linear "
            f"projections of {', '.join(sorted(parts))}; write the peft.LoraConfig by hand"
        )

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return len(self.sizes)

    def parameters(self, layers: Collection[int], rank: int) -> int:
        """Trainable parameters of adapters of this rank on these layers."""
        return rank * sum(sum(self.sizes[layer].values()) for layer in layers)

    def matching_rank(self, layers: Collection[int], parameters: int) -> int:
        """The rank, at least 1, whose adapters on these layers come nearest to this many."""
        return max(1, round(parameters / self.parameters(layers, 1)))


def lora_config(
    target: Sequence[int] | LayerImportance | Circuit | None,
    model: PreTrainedModel | HookedModel,
    rank: int = 8,
    *,
    k: int | None = None,
    parts: Collection[str] = PARTS,
    alpha: int | None = None,
    dropout: float = 0.0,
) -> LoraConfig:
    """A LoRA on some layers of a model.

    Args:
        target: the layers; or an importance, of which the `k` largest layers are taken; or a
            circuit, whose edges give the importance; or None for all layers.
        model: the model that the configuration is for.
        rank: of the adapter.
        k: how many layers by importance. None takes half of them, or as many as have any.
        parts: which projections of a layer: "qkv", "attention-output", "mlp". GPT-2 keeps q, k and
            v in one.
        alpha: LoRA's scale is alpha / rank. None gives a scale of 2 at any rank, so that
            conditions of unequal rank learn at like speed.
        dropout: of the adapter's input.

    Returns:
        A configuration for `peft.get_peft_model`, or for `wrap`, which checks what PEFT did.

    Raises:
        CircuitsError: for layers, a rank, a k or parts that the model does not have.
    """
    network = model.hf if isinstance(model, HookedModel) else model
    projections = Projections.of(network, parts)
    n_layers = projections.n_layers
    if isinstance(target, Circuit):
        target = importance_from_circuit(target)
    if isinstance(target, LayerImportance):
        if len(target.values) != n_layers:
            raise CircuitsError(
                f"{target.criterion}: importance of {len(target.values)} layers for a model of "
                f"{n_layers}"
            )
        usual = max(1, min(n_layers // 2, target.positive))
        layers = critical_layers(target, usual if k is None else k)
    elif k is not None:
        raise CircuitsError("k chooses among layers by importance; give an importance, or no k")
    else:
        layers = tuple(range(n_layers)) if target is None else tuple(sorted(set(target)))
    if not layers or not 0 <= layers[0] <= layers[-1] < n_layers:
        raise CircuitsError(f"layers {list(layers)}: the model has layers 0 to {n_layers - 1}")
    if rank < 1:
        raise CircuitsError(f"rank {rank}: it must be at least 1")
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=sorted({name for layer in layers for name in projections.sizes[layer]}),
        layers_to_transform=list(layers),
        layers_pattern=_pattern(network, projections.stack),
        fan_in_fan_out=projections.conv1d,
    )


def _stacks(model: PreTrainedModel) -> Iterator[tuple[str, nn.ModuleList]]:
    """Lists of modules in the language model, by name; a vision tower's are none of them."""
    inside = tower(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and (not inside or name.startswith(f"{inside}.")):
            yield name, module


def _pattern(model: PreTrainedModel, stack: str) -> str:
    """The end of a stack's name, as far as no other list of modules ends in it: PEFT would take a
    vision tower's `layers` for the language model's.
    """
    others = [
        f".{name}"
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and name != stack
    ]
    parts = stack.split(".")
    ends = (".".join(parts[place:]) for place in reversed(range(len(parts))))
    return next(
        (end for end in ends if not any(name.endswith(f".{end}") for name in others)), stack
    )


def wrap(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """`peft.get_peft_model`, and a check that exactly the wanted projections got an adapter.

    `model` is changed in place, also when the check fails. PEFT draws the initial weights from
    torch's global generator: seed it for a repeatable adapter.
    """
    wanted = _wanted(model, config)
    path = model.config.name_or_path or None
    commit = getattr(model.config, "_commit_hash", None)  # of a hub model; a folder has none
    with quiet_peft():
        wrapped = get_peft_model(model, config)
    wrapped.peft_config["default"].base_model_name_or_path = path
    wrapped.peft_config["default"].revision = commit
    got = {
        name.removesuffix(".lora_A").removeprefix("base_model.model.")
        for name, _ in wrapped.named_modules()
        if name.endswith(".lora_A")
    }
    if got != wanted:
        missing, extra = sorted(wanted - got), sorted(got - wanted)
        raise CircuitsError(
            "the adapter does not sit where the configuration says: "
            f"missing on {missing or 'none'}, unasked on {extra or 'none'}; "
            "make the configuration with lora_config"
        )
    stray = [n for n, p in wrapped.named_parameters() if p.requires_grad and "lora_" not in n]
    if stray:
        raise CircuitsError(f"parameters outside the adapter would be trained too: {stray}")
    return wrapped


def adapted_layers(model: nn.Module) -> tuple[int, ...]:
    """Layers of a wrapped model that hold an adapter."""
    names = [name for name, _ in model.named_modules() if name.endswith(".lora_A")]
    found = {int(match[1]) for name in names if (match := re.search(r"\.(\d+)\.", name))}
    return tuple(sorted(found))


def trainable_parameters(model: nn.Module) -> int:
    """Number of parameters that training would change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _wanted(model: PreTrainedModel, config: LoraConfig) -> set[str]:
    """Full names of the projections that a configuration asks for."""
    targets, layers = config.target_modules, config.layers_to_transform
    if targets is None or isinstance(targets, str):
        raise CircuitsError("target_modules must be a list of names; use lora_config")
    stack = Projections.of(model).stack
    chosen = {layers} if isinstance(layers, int) else None if layers is None else set(layers)
    names = set()
    for name, _ in _linear(model):
        match = re.match(rf"{re.escape(stack)}\.(\d+)\.", name)
        inside = chosen is None or (match is not None and int(match[1]) in chosen)
        if inside and any(name == one or name.endswith(f".{one}") for one in targets):
            names.add(name)
    return names


def _linear(module: nn.Module) -> Iterator[tuple[str, nn.Linear | Conv1D]]:
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear | Conv1D):
            yield name, child


def _part(name: str) -> AdapterPart | None:
    """Which part of a layer a linear map belongs to, by its name within the layer."""
    block, _, leaf = name.rpartition(".")
    if "mlp" in block or "feed_forward" in block or (not block and leaf in _BARE_MLP):
        return "mlp"
    if "attn" in block or "attention" in block:
        return "qkv" if leaf in _QKV else "attention-output"
    return None
