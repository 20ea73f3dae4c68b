"""Whether a model is plain: a Hugging Face model whose weights are the numbers that it computes
with. What is not is named, since a view of it would fail for reasons that are not the reason.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from circuits.errors import UnsupportedError
from circuits.models.adapter_layers import adapter_layer_types
from circuits.models.load_errors import abbreviated
from circuits.models.quantised import QuantisedLinear

# Packages of quantised layers or weights, by the beginning of a class's module.
_PACKAGES = {
    "bitsandbytes": "bitsandbytes",
    "optimum.quanto": "quanto",
    "quanto": "quanto",
    "torchao": "torchao",
    "torch.ao": "torch.ao",
    "auto_gptq": "GPTQ",
    "gptqmodel": "GPTQ",
    "awq": "AWQ",
    "hqq": "HQQ",
    "aqlm": "AQLM",
    "eetq": "EETQ",
    "vptq": "VPTQ",
    "compressed_tensors": "compressed-tensors",
    "fbgemm_gpu": "FBGEMM",
}
_DISTRIBUTIONS = {"quanto": "optimum-quanto"}  # where another than the package is called
_COUNTED = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_WRAPPERS = {  # class -> where the plain model is
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
}


def require_plain(model: object, name: str) -> PreTrainedModel:
    """The model itself, or a CircuitsError that says what it is and how it becomes plain."""
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        raise UnsupportedError(
            f"{name}: {kind} where a model is expected; HookedModel.from_pretrained loads one"
        )
    adapted = _adapter_layers(model)
    if adapted:
        raise UnsupportedError(
            f"{name}: {kind} holds adapter layers of PEFT that are not merged into the weights "
            f"({abbreviated(adapted)}); give what its merge_and_unload() returns, or the "
            "adapter's folder"
        )
    if kind in _WRAPPERS:
        raise UnsupportedError(
            f"{name}: {kind} wraps a model; give the model inside it (its .{_WRAPPERS[kind]})"
        )
    for adapter in getattr(model, "peft_config", {}).values():
        raise UnsupportedError(
            f"{name}: {kind} is a PEFT model of type {getattr(adapter.peft_type, 'value', '')}; "
            "only what can be merged into the weights, such as a LoRA, is supported"
        )
    if not isinstance(model, PreTrainedModel):
        raise UnsupportedError(
            f"{name}: {kind} is no model of Hugging Face transformers; only those are looked at"
        )
    absent = [path for path, parameter in model.named_parameters() if parameter.is_meta]
    if absent and getattr(model, "hf_device_map", None) is None:
        raise UnsupportedError(
            f"{name}: {len(absent)} weights hold no data here ({abbreviated(absent)}): they are on "
            "the meta device; load them, or have accelerate offload them"
        )
    # In a language model it may stand in the configuration of the text alone.
    if False in (model.config.return_dict, model.config.get_text_config().return_dict):
        raise UnsupportedError(f"{name}: its configuration has return_dict False; set it to True")
    return model


def quantisation(model: nn.Module) -> str | None:
    """How the weights are quantised, with what version: "bitsandbytes 0.50.2 nf4", "quanto 0.2.7
    qint8"; None if they are not.

    The configuration is not asked: it may speak of weights that were dequantised since.
    """
    return next(filter(None, map(_quantisation, model.modules())), None)


def quantised_layers(model: nn.Module) -> list[nn.Module]:
    """The modules whose own weights are quantised."""
    return [module for module in model.modules() if _quantisation(module)]


def _quantisation(module: nn.Module) -> str | None:
    if isinstance(module, QuantisedLinear):
        return f"{_versioned('bitsandbytes')} {module.kind}"
    weights = [
        tensor
        for name in ("weight", "qweight", "W_q", "weight_packed")
        if isinstance(tensor := module._parameters.get(name, module._buffers.get(name)), Tensor)
    ]
    package = _package(module) or next(
        (_package(weight) for weight in weights if _package(weight)), ""
    )
    low = next((weight for weight in weights if weight.dtype not in _COUNTED), None)
    if not package and low is None:
        return None
    form = _form(module, weights, low)
    return " ".join(filter(None, (_versioned(package) if package else "", form)))


def _versioned(package: str) -> str:
    """A package of quantised layers with its version, where that is known."""
    try:
        return f"{package} {version(_DISTRIBUTIONS.get(package, package))}"
    except PackageNotFoundError:
        return package


def _adapter_layers(model: nn.Module) -> list[str]:
    types = adapter_layer_types()
    return [path for path, module in model.named_modules() if isinstance(module, types)]


def _package(thing: object) -> str:
    """The package of quantised layers that an object's class, or one it builds on, is from."""
    for kind in type(thing).__mro__:
        for start, package in _PACKAGES.items():
            if kind.__module__ == start or kind.__module__.startswith(f"{start}."):
                return package
    return ""


def _form(module: nn.Module, weights: list[Tensor], low: Tensor | None) -> str:
    """The numbers that the weights are kept in, as the layer or its weight says."""
    for thing in (*weights, module):
        kind = getattr(thing, "quant_type", None)  # bitsandbytes: nf4, fp4
        if isinstance(kind, str):
            return kind
        kind = getattr(getattr(thing, "qtype", getattr(thing, "weight_qtype", None)), "name", None)
        if isinstance(kind, str):  # quanto: qint8
            return kind
        bits = getattr(thing, "bits", getattr(thing, "w_bit", getattr(thing, "nbits", None)))
        if isinstance(bits, int):  # GPTQ, AWQ, HQQ
            return f"{bits} bit"
    if low is not None:
        return str(low.dtype).removeprefix("torch.")
    own = getattr(module, "weight", None)  # torch.ao: a method
    dtype = getattr(own() if callable(own) else own, "dtype", None)
    if isinstance(dtype, torch.dtype) and dtype not in _COUNTED:
        return str(dtype).removeprefix("torch.")
    return type(weights[0]).__name__ if weights and type(weights[0]) is not nn.Parameter else ""
