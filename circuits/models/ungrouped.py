"""A model with a k and a v projection for every query head, as MIB and EAP-IG count edges.

Under grouped-query attention several query heads read the keys and values of one KV head. Repeating
the rows of `k_proj` and `v_proj` gives each query head its own, which are equal numbers: the model
computes the same, and its graph has an edge into each copy (TransformerLens:
`ungroup_grouped_query_attention`). All other weights are shared with the model, so that the twin
needs memory for the two projections alone.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuits.errors import CircuitsError, UnsupportedError
from circuits.models.hooked import HookedModel

_PROBE = 8  # tokens of the comparison
_TOLERANCE = 1e-4  # of the largest logit


def ungrouped_twin(model: HookedModel) -> HookedModel:
    """The same model on its ungrouped graph.

    Args:
        model: of any attention; it is not changed.

    Returns:
        The model itself where no heads share keys; else a twin, whose logits were compared with
        the model's.

    Raises:
        CircuitsError: where the projections are none that can be repeated (fused, quantised), or
            the twin computes other logits.
    """
    layout = model.layout
    if layout.n_kv_heads == layout.n_heads:
        return model
    shared = (*model.hf.parameters(), *model.hf.buffers())
    hf = copy.deepcopy(model.hf, {id(tensor): tensor for tensor in shared})
    group = layout.n_heads // layout.n_kv_heads
    changed = 0
    # Of the language model's layers alone: what sees or hears has such projections too.
    decoders = {id(layer.block) for layer in model.view.layers}
    paths = [path for path, module in model.hf.named_modules() if id(module) in decoders]
    for module in (part for path in paths for part in hf.get_submodule(path).modules()):
        ports = [getattr(module, name, None) for name in ("k_proj", "v_proj")]
        if ports == [None, None]:
            continue
        for name, port in zip(("k_proj", "v_proj"), ports, strict=True):
            if type(port) is not nn.Linear:
                raise CircuitsError(
                    f"{model.name}: its {name} is {type(port).__name__}, not a plain linear map; "
                    "edges are counted ungrouped for plain weights only"
                )
            setattr(module, name, _repeated(port, layout.n_kv_heads, group))
        for name in ("num_key_value_groups", "num_key_value_heads"):
            if hasattr(module, name):
                setattr(module, name, 1 if name.endswith("groups") else layout.n_heads)
        changed += 1
    if changed != layout.n_layers:
        raise CircuitsError(
            f"{model.name}: {changed} of {layout.n_layers} layers have k_proj and v_proj; edges "
            "cannot be counted ungrouped in this architecture"
        )
    hf.config.get_text_config().num_key_value_heads = layout.n_heads
    try:
        tokenizer = model.tokenizer
    except CircuitsError:
        tokenizer = None
    try:
        twin = HookedModel(hf, tokenizer, f"{model.name} (ungrouped)")
    except UnsupportedError as error:
        raise CircuitsError(
            f"{model.name}: edges cannot be counted ungrouped in this architecture ({error})"
        ) from error
    tokens = torch.arange(_PROBE, device=model.device)[None] % model.d_vocab
    with torch.no_grad():
        grouped_logits, ungrouped_logits = (
            hooked.hf(tokens).logits.float() for hooked in (model, twin)
        )
    tolerance = max(_TOLERANCE, 4 * torch.finfo(model.hf.dtype).eps)
    if float((grouped_logits - ungrouped_logits).abs().max()) > tolerance * float(
        grouped_logits.abs().max()
    ):
        raise CircuitsError(
            f"{model.name}: with a k and a v for every head it computes other logits; edges cannot "
            "be counted ungrouped in this architecture"
        )
    return twin


def _repeated(port: nn.Linear, heads: int, group: int) -> nn.Linear:
    """A projection whose heads stand `group` times each, one copy after another."""

    def copies(tensor: Float[Tensor, "feature ..."]) -> nn.Parameter:
        by_head = tensor.detach().unflatten(0, (heads, -1))
        wide = by_head.repeat_interleave(group, dim=0).flatten(0, 1)
        return nn.Parameter(wide, requires_grad=False)

    repeated = nn.Linear(1, 1, bias=port.bias is not None, device="meta")
    repeated.in_features, repeated.out_features = port.in_features, port.out_features * group
    repeated.weight = copies(port.weight)
    if port.bias is not None:
        repeated.bias = copies(port.bias)
    return repeated
