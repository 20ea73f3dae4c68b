"""Which PEFT adapters have one set of weights that is equal to them, and whose records can be read.

A LoRA adds a fixed matrix to a weight: the merged model is the adapted one. What adds to the
prompt, or mixes several adapters by the input or the task, has no such weights, whatever PEFT
offers: `merge_and_unload` of an X-LoRA (PEFT 0.21) gives the base with every LoRA added in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from circuits.errors import UnsupportedError

_BY_INPUT = {
    "XLORA": "a gate mixes its LoRAs again for every input",
    "POLY": "a router mixes its LoRAs by task",
    "LILY": "a router mixes its adapters again for every input",
    "SHADOW": "what it adds depends on the input",
}
_MOVED = {
    "pissa_niter_": "a factorisation that begins from random numbers",
    "lora_ga": "gradients of its first training examples",
    "corda": "activations on chosen examples",
}
"""Initialisations of a LoRA that take from the base what they begin with, by what decides it: when
the adapter is loaded, PEFT 0.21 takes something else, or nothing (CorDA: it stops)."""

_GONE = {"BONE": " (MiSS took its place)"}


def require_mergeable(folder: Path, record: Mapping[str, object]) -> None:
    """Refuse an adapter that no set of weights is equal to, and a record that PEFT misreads.

    record: the folder's adapter_config.json.
    """
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

    type_name = record.get("peft_type")
    kind = str(type_name)
    installed = f"the installed PEFT {peft.__version__}"
    if type_name is None:
        raise UnsupportedError(
            f"{folder}: adapter_config.json names no peft_type; is it an adapter's?"
        )
    peft_type = next(
        (candidate for candidate in PEFT_TYPE_TO_CONFIG_MAPPING if candidate.value == kind), None
    )
    if peft_type is None:
        raise UnsupportedError(
            f"{folder}: an adapter of type {type_name!r}, which {installed} does not know"
            f"{_GONE.get(kind, '')}; merge it with the PEFT that made it, save the model, and give "
            "that"
        )
    if kind in _BY_INPUT:
        raise UnsupportedError(
            f"{folder}: an adapter of type {kind}: {_BY_INPUT[kind]}, so no one set of weights is "
            "equal to it, and it cannot be merged; only what can be merged is supported"
        )
    if not hasattr(PEFT_TYPE_TO_TUNER_MAPPING.get(peft_type), "merge_and_unload"):
        raise UnsupportedError(
            f"{folder}: an adapter of type {kind} adds to the prompt or to the layers; only what "
            "can be merged into the weights, such as a LoRA, is supported"
        )
    if record.get("alora_invocation_tokens"):
        raise UnsupportedError(
            f"{folder}: an activated LoRA (alora_invocation_tokens) works from certain tokens on, "
            "so no one set of weights is equal to it, and it cannot be merged"
        )
    begun = str(record.get("init_lora_weights")).lower()
    for init, decided in _MOVED.items():
        if begun.startswith(init):
            raise UnsupportedError(
                f"{folder}: a LoRA initialised by {begun} is added to a base from which as much "
                f"was taken; how much was decided by {decided}, and is not kept in the folder, so "
                "the trained model cannot be made again; save it merged where it was trained, or "
                "converted (PEFT's path_initial_model_for_weight_conversion), and give that"
            )
    field_names = PEFT_TYPE_TO_CONFIG_MAPPING[peft_type].__dataclass_fields__
    for name, value in record.items():
        if name not in field_names and value not in (None, False, "", [], {}):
            raise UnsupportedError(
                f"{folder}: adapter_config.json has {name} {value!r}, which {installed} does not "
                "know and would leave out; update PEFT, or remove it if it changes nothing"
            )
    if record.get("layer_replication"):
        raise UnsupportedError(
            f"{folder}: a LoRA with layer_replication makes several layers of one weight and gives "
            "each an adapter of its own, so no weights of the base's layers are equal to it"
        )
    for name, (fits, what) in _FIELDS.items():
        if kind == "OFT" and name == "r" and record.get("oft_block_size"):
            continue  # one of the two is 0, and says that the other decides
        if record.get(name) is not None and not fits(record[name]):
            raise UnsupportedError(
                f"{folder}: adapter_config.json has {name} {record[name]!r}; {what}"
            )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "r": (_whole, "it must be a whole number above 0"),
    "lora_alpha": (_number, "it must be a number"),
    "lora_dropout": (_number, "it must be a number"),
    "target_modules": (lambda v: isinstance(v, str) or _names(v), "it must be names"),
    "modules_to_save": (_names, "it must be a list of names"),
    "layers_to_transform": (
        lambda v: isinstance(v, int) or (isinstance(v, list) and all(map(_number, v))),
        "it must be whole numbers",
    ),
}
"""Fields of many kinds of adapter, and what they must hold."""
