"""The same architecture with weights that learned nothing: a control for what is found in a model.

shuffled: the numbers of each tensor in another order, so that scales stay as training left them.
initial: drawn again, as before training, by the architecture's own rule.
Source: Adebayo et al. (2018), "Sanity Checks for Saliency Maps".
"""

from __future__ import annotations

import copy

import torch

from circuits.errors import CircuitsError
from circuits.models.hooked import HookedModel
from circuits.options.choices import NullWeights


def scrambled(model: HookedModel, weights: NullWeights, *, seed: int) -> HookedModel:
    """A model that learned nothing, of the same configuration, dtype and device.

    Needs memory for a second model.

    Args:
        model: whose architecture it has; it is not changed.
        weights: "shuffled" or "initial".
        seed: of the order, or of the draw.

    Returns:
        Another model, with the same tokenizer if there is one.

    Raises:
        CircuitsError: for quantised weights, and a model over several devices.
    """
    devices = {*(getattr(model.hf, "hf_device_map", None) or {}).values()}
    if model.quantisation is not None or len(devices) > 1:
        raise CircuitsError(
            f"{model.name}: a model that learned nothing is made of plain weights on one device; "
            "load it without quantize and device_map"
        )
    draw = torch.Generator().manual_seed(seed)
    if weights == "initial":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            hf = type(model.hf)(copy.deepcopy(model.hf.config))
        torch.nn.Module.to(hf, model.device, model.hf.dtype)
    else:
        hf = copy.deepcopy(model.hf)
        with torch.no_grad():
            for tensor in hf.parameters():
                order = torch.randperm(tensor.numel(), generator=draw).to(tensor.device)
                tensor.copy_(tensor.flatten()[order].view_as(tensor))
    name = f"{model.name} ({weights} weights, seed {seed})"
    try:
        tokenizer = model.tokenizer
    except CircuitsError:
        return HookedModel(hf, None, name)
    return HookedModel(hf, tokenizer, name)
