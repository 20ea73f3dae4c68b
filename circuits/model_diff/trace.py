"""What one forward pass leaves behind, layer by layer: attention, hidden states, neurons.

The model runs as it is, with SDPA; a `TorchFunctionMode` sees the arguments of each SDPA call, and
hooks see what enters and leaves each block and each MLP's output matrix. Models that make no SDPA
call are asked for their patterns instead. Padding stands on the right, where causal attention never
looks back at it, so no mask is passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedConfig
from transformers.utils.generic import ModelOutput

from circuits.errors import CircuitsError
from circuits.model_diff.attention import Attention, Pattern
from circuits.models import HookedModel
from circuits.models.hooks import Hooks


@dataclass(frozen=True)
class Neurons:
    """A layer's neurons (inputs of the MLP's output matrix) on a batch, positions averaged.

    mean: of the activation over each document's positions. square: of its square.
    """

    mean: Float[Tensor, "batch neuron"]
    square: Float[Tensor, "batch neuron"]


@dataclass(frozen=True)
class LayerTrace:
    """One layer of one run. before, after: the residual stream around the block.

    neurons: None where the MLP is no chain of linear maps (mixture of experts).
    """

    attention: Attention | Pattern
    before: Float[Tensor, "batch pos d_model"]
    after: Float[Tensor, "batch pos d_model"]
    neurons: Neurons | None


def run_layers(
    model: HookedModel, tokens: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]
) -> list[LayerTrace]:
    """Run the model's body once, without the unembedding.

    Raises CircuitsError for encoder-decoder models and for attention that cannot be seen.
    """
    recorder = _Recorder(model, mask)
    wants_patterns = getattr(model.hf.config, "_attn_implementation", None) != "sdpa"
    with recorder.hooks, _SdpaCalls(recorder.on_attention):
        output = run_body(model, tokens, output_attentions=wants_patterns)
    patterns = getattr(output, "attentions", None)
    if wants_patterns and patterns and all(pattern is not None for pattern in patterns):
        recorder.attention = {
            layer: Pattern(
                pattern.to(model.device), _window(model.hf.config.get_text_config(), layer)
            )
            for layer, pattern in enumerate(patterns)
        }
    return recorder.layers()


def _window(config: PreTrainedConfig, layer: int) -> int | None:
    """How many keys a query of the layer sees, where its configuration limits them."""
    kinds = getattr(config, "layer_types", None)
    slides = kinds is None or kinds[layer] == "sliding_attention"
    return getattr(config, "sliding_window", None) if slides else None


def run_body(model: HookedModel, tokens: Int[Tensor, "batch pos"], **settings: bool) -> ModelOutput:
    """Run a decoder-only model without its unembedding; others are a CircuitsError."""
    if model.layout.n_encoder_layers:
        raise CircuitsError(
            f"{model.name}: only decoder-only models can be compared inside; this is an "
            "encoder-decoder one"
        )
    with torch.no_grad():
        output: ModelOutput = model.hf.base_model(input_ids=tokens, use_cache=False, **settings)
    return output


class _SdpaCalls(TorchFunctionMode):
    """Shows the arguments of every SDPA call; changes nothing."""

    def __init__(self, seen: Callable[[Attention], None]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(
        self,
        function: Callable[..., object],
        _types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if function is torch.nn.functional.scaled_dot_product_attention:
            of_call: Callable[..., Attention] = Attention.of_call
            self._seen(of_call(*args, **(kwargs or {})))
        return function(*args, **(kwargs or {}))


class _Recorder:
    """The hooks, and what they have seen so far."""

    def __init__(self, model: HookedModel, mask: Bool[Tensor, "batch pos"]) -> None:
        self.name, self.home = model.name, model.device
        self.mask = mask
        self.hooks = Hooks()
        self.attention: dict[int, Attention | Pattern] = {}
        self.before: dict[int, Tensor] = {}
        self.after: dict[int, Tensor] = {}
        self.neurons: dict[int, Neurons] = {}
        self.layer = -1
        for index, layer in enumerate(model.view.layers):
            self.hooks.before(layer.block, self._entering(index))
            self.hooks.after(layer.block, self._leaving(index))
            self.hooks.before(layer.mlp.hidden, self._activation(index))

    def on_attention(self, attention: Attention) -> None:
        """The SDPA call of the layer that is running."""
        self.attention[self.layer] = attention.to(self.home)

    def layers(self) -> list[LayerTrace]:
        """Everything seen, in the order of the layers."""
        missing = self.before.keys() - self.attention.keys()
        if missing:
            raise CircuitsError(
                f"{self.name}: the attention of layer {min(missing)} can be seen neither as an "
                "SDPA call nor as a pattern; load the model with attn_implementation='sdpa' or "
                "'eager'"
            )
        return [
            LayerTrace(
                self.attention[layer],
                self.before[layer],
                self.after[layer],
                self.neurons.get(layer),
            )
            for layer in range(len(self.before))
        ]

    def _entering(self, index: int) -> Callable[[Tensor], None]:
        def note(x: Tensor) -> None:
            self.layer = index
            self.before[index] = x

        return note

    def _leaving(self, index: int) -> Callable[[Tensor], None]:
        def note(x: Tensor) -> None:
            self.after[index] = x

        return note

    def _activation(self, index: int) -> Callable[[Tensor], None]:
        def note(x: Tensor) -> None:
            self.neurons[index] = _moments(x, self.mask)

        return note


def _moments(
    activation: Float[Tensor, "*positions neuron"], mask: Bool[Tensor, "batch pos"]
) -> Neurons:
    """Means over positions that are not padding, as products with the positions' weights.

    activation: OPT flattens batch and position.
    """
    values = activation.float().reshape(*mask.shape, -1)
    weights = (mask / mask.sum(dim=1, keepdim=True)).float().unsqueeze(1)
    return Neurons((weights @ values)[:, 0], (weights @ values.square())[:, 0])
