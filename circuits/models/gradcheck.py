"""Prove that quantised layers give the gradients of the numbers that their weights stand for.

What scores are made of are gradients with respect to the embeddings. A layer that rounds what goes
into it has none, and its library puts something in their place; another keeps no graph at all. So
a small batch of random tokens is run twice, with the layers as they are and with plain products of
their dequantised weights, made one at a time and again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from circuits.models.forwards import replaced_forwards
from circuits.models.quantised import dequantised
from circuits.models.rounding import allowed_error

_EXAMPLES, _LENGTH = 2, 6


def wrong_gradients(model: PreTrainedModel, layers: Sequence[nn.Module]) -> str | None:
    """What is wrong with the gradients that quantised layers give.

    Args:
        model: frozen.
        layers: the quantised ones.

    Returns:
        What the layers do, in words, where gradients or logits differ from those of the
        dequantised weights by more than rounding does; None where they do not.
    """
    if not layers:
        return None
    draw = torch.Generator().manual_seed(0)
    embedded = model.get_input_embeddings()
    size = (_EXAMPLES, _LENGTH)
    tokens = torch.randint(_rows(embedded), size, generator=draw).to(model.device)
    logits, gradient = _run(model, tokens)
    with _plain_products(layers):
        expected, expected_gradient = _run(model, tokens)
    assert expected_gradient is not None
    if gradient is None:
        return "give no gradients with respect to the embeddings"
    tolerance = allowed_error(model.dtype)
    for what, actual, reference in (
        ("other logits than", logits, expected),
        (
            "other gradients with respect to the embeddings than those of",
            gradient,
            expected_gradient,
        ),
    ):
        error = float((actual - reference).abs().max() / reference.abs().max().clamp(min=1e-30))
        if not error <= tolerance:
            return (
                f"give {what} the weights that they stand for, off by {error:.1e} of the largest "
                f"(allowed {tolerance:.0e})"
            )
    return None


def _rows(embedding: nn.Module) -> int:
    weight = embedding.weight
    assert isinstance(weight, Tensor)
    return weight.shape[0]


def _run(
    model: PreTrainedModel, tokens: Int[Tensor, "batch pos"]
) -> tuple[Float[Tensor, "batch pos vocab"], Float[Tensor, "leaf_batch pos d_model"] | None]:
    """Logits, and the gradient of a random sum of them with respect to what the embeddings give, an
    encoder's and a decoder's in turn.
    """
    leaves: list[Tensor] = []

    def leaf(_: nn.Module, __: object, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    embedded = model.get_input_embeddings().weight
    embeddings = [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.weight is embedded
    ]
    handles = [module.register_forward_hook(leaf) for module in embeddings]
    decoder_inputs = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    try:
        with torch.enable_grad():
            logits: Tensor = model(
                input_ids=tokens, use_cache=False, **decoder_inputs
            ).logits.float()
            draw = torch.Generator().manual_seed(1)
            weights = torch.randn(logits.shape, generator=draw).to(logits.device)
            if not logits.requires_grad:
                return logits, None
            leaf_gradients = torch.autograd.grad(
                (logits * weights).sum(), leaves, allow_unused=True
            )
    finally:
        for handle in handles:
            handle.remove()
    gradients = [gradient.float() for gradient in leaf_gradients if gradient is not None]
    return logits.detach(), torch.cat(gradients) if gradients else None


def _plain_products(layers: Sequence[nn.Module]) -> AbstractContextManager[None]:
    """For one block of code, layers multiply with their dequantised weights."""
    again = partial(checkpoint, use_reentrant=False)
    return replaced_forwards({layer: partial(again, partial(_product, layer)) for layer in layers})


def _product(layer: nn.Module, x: Tensor) -> Tensor:
    bias = layer.bias
    assert bias is None or isinstance(bias, Tensor)
    weight = dequantised(layer).to(x.dtype)
    return nn.functional.linear(x, weight, None if bias is None else bias.to(x.dtype))
