"""From a Hugging Face model to its `View`.

TransformerLens's architecture adapter names the module behind each canonical component
(`blocks.attn.q`, `ln1`, ...). Those names are resolved on the plain model, so that hooks sit on its
own modules and attention runs as the model runs it (SDPA). What the adapter does not say (where a
fused projection keeps its heads, whether a norm stands before or after its sublayer) is said here
by model type; `selfcheck.py` proves the outcome. What does not fit is refused with the reason.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import nn
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent
from transformer_lens.model_bridge.sources import build_bridge_config_from_hf
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2CLS
from transformers.pytorch_utils import Conv1D

from circuits.errors import UnsupportedError
from circuits.graph.layout import Layout
from circuits.graph.node import PORTS, AttentionPlace, MLPPlace
from circuits.models.language import tower
from circuits.models.norm import Norm
from circuits.models.quantised import QuantisedLinear
from circuits.models.recompute import Recomputable
from circuits.models.view import (
    MLP,
    Attention,
    Event,
    Layer,
    Projection,
    ReadsHeads,
    ReadsInput,
    Rescales,
    Stream,
    View,
    WritesHeads,
    WritesMLP,
)

# Fused projections: all of q, then all of k, then all of v; or q, k, v of one head after another.
_CONCATENATED = ("gpt2", "phi3")
_INTERLEAVED = ("gpt_neox", "bloom")
# Models that see whose adapter asks for packages that read images: the adapter of their text alone.
_TEXT_ALONE = {
    "qwen2_vl_text": "Qwen2ForCausalLM",
    "qwen2_5_vl_text": "Qwen2ForCausalLM",
    "qwen3_vl_text": "Qwen3ForCausalLM",
}
# The norms follow attention and MLP on the stream itself: x = norm(x + attention(x)).
_POST_NORM = ("bart",)
# What gives each position its own output: linear maps, activation functions (some with settings).
_BY_POSITION: tuple[type, ...] = (
    nn.Linear,
    Conv1D,
    QuantisedLinear,
    *(
        kind
        for each in ACT2CLS.values()
        for kind in (each if isinstance(each, tuple) else (each,))
        if isinstance(kind, type)
    ),
)

_Parts = Mapping[str, GeneralizedComponent]
"""What TransformerLens names in a model or in one of its parts."""


def _named_modules(
    model: PreTrainedModel,
) -> tuple[TransformerBridgeConfig, _Parts]:
    """TransformerLens's configuration of a model, and what it names; no weight is looked at.

    A `CircuitsError` says what is not supported.
    """
    architecture = type(model).__name__
    text = model.config.get_text_config()
    try:
        if text.model_type in _TEXT_ALONE:
            config, mapping = _adapter(model, text, _TEXT_ALONE[text.model_type])
            for name, component in mapping.items():
                if name != "unembed":
                    component.name = (
                        f"{tower(model)}.{(component.name or '').removeprefix('model.')}"
                    )
        else:
            config, mapping = _adapter(model, model.config, architecture)
    except (ValueError, AttributeError) as error:
        raise UnsupportedError(
            f"{architecture}: TransformerLens has no adapter for this architecture ({error})"
        ) from error
    _refuse(model, mapping)
    return config, mapping


def _of(owner: nn.Module, part: GeneralizedComponent) -> nn.Module:
    """The module that stands behind a part; the owner itself where the part has none."""
    return owner.get_submodule(part.name or "")


def _adapter(
    model: PreTrainedModel, config: PreTrainedConfig, architecture: str
) -> tuple[TransformerBridgeConfig, _Parts]:
    config = _even(config)
    made = build_bridge_config_from_hf(config, architecture, str(model.name_or_path), model.dtype)
    adapter = ArchitectureAdapterFactory.select_architecture_adapter(made)
    return made, adapter.component_mapping or {}


def _even(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy whose encoder has the decoder's sizes: the names are the same, and TransformerLens's
    BART takes no other. Depth is then read from the model; heads are looked at by `_refuse`.
    """
    sides = [f"{{}}_{size}" for size in ("layers", "ffn_dim", "attention_heads")]
    uneven = {
        side.format("encoder"): getattr(config, side.format("decoder"))
        for side in sides
        if hasattr(config, side.format("encoder")) and hasattr(config, side.format("decoder"))
    }
    if all(getattr(config, name) == size for name, size in uneven.items()):
        return config
    copied = copy.deepcopy(config)
    for name, size in uneven.items():
        setattr(copied, name, size)
    return copied


def describe(model: PreTrainedModel) -> View:
    """Describe a model; a `CircuitsError` says what does not fit."""
    config, mapping = _named_modules(model)
    heads = int(config.n_heads)
    sides = ["encoder_blocks", "decoder_blocks"] if "decoder_blocks" in mapping else ["blocks"]
    blocks = [_blocks(model, mapping, side) for side in sides]
    layout = Layout(
        len(blocks[-1]),
        heads,
        int(config.n_key_value_heads or heads),
        bool(config.parallel_attn_mlp),
        len(blocks[0]) if len(sides) == 2 else 0,
        model.config.get_text_config().model_type in _POST_NORM,
    )
    build = _Build(model, mapping, layout, int(config.d_head))
    for side, modules in zip(sides, blocks, strict=True):
        build.stream(side, modules)
    return View(
        tuple(build.streams),
        tuple(build.layers),
        tuple(build.attentions),
        tuple(build.mlps),
        _tail(model, mapping),
        _recomputable(model, mapping),
        layout,
        int(config.d_model),
        int(config.d_head),
    )


def separable(model: PreTrainedModel) -> tuple[tuple[nn.Module, ...], Recomputable]:
    """The view's `tail` and `recomputable` of a model whose weights hold no data; refuses as
    `describe` does.
    """
    mapping = _named_modules(model)[1]
    return _tail(model, mapping), _recomputable(model, mapping)


def _blocks(model: PreTrainedModel, mapping: _Parts, side: str) -> list[nn.Module]:
    return list(_of(model, mapping[side]).children())


def _recomputable(model: PreTrainedModel, mapping: _Parts) -> Recomputable:
    layers: list[nn.Module] = []
    added: list[nn.Module] = []
    on_stream = model.config.get_text_config().model_type in _POST_NORM
    for side in ("encoder_blocks", "decoder_blocks", "blocks"):
        if side not in mapping:
            continue
        parts = mapping[side].submodules
        for block in _blocks(model, mapping, side):
            layers.append(block)
            if not on_stream and "ln2_post" not in parts:
                owner = _of(block, parts["mlp"])
                added.append(_of(owner, parts["mlp"].submodules["out"]))
    return Recomputable(tuple(layers[:-1]), tuple(added))


def _tail(model: PreTrainedModel, mapping: _Parts) -> tuple[nn.Module, ...]:
    blocks = mapping["decoder_blocks" if "decoder_blocks" in mapping else "blocks"]
    block, parts = list(_of(model, blocks).children())[-1], blocks.submodules
    shared = set()
    for part in (parts[name] for name in ("attn", "self_attn", "cross_attn") if name in parts):
        attention, names = _of(block, part), part.submodules
        for port in ("qkv",) if "qkv" in names else ("k", "v"):
            shared.add(_of(attention, names[port]))
    alone = (module for module in block.modules() if isinstance(module, _BY_POSITION))
    return tuple(module for module in alone if module not in shared)


def _refuse(model: PreTrainedModel, mapping: _Parts) -> None:
    architecture, config = type(model).__name__, model.config.get_text_config()
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not config.is_encoder_decoder:
        raise UnsupportedError(
            f"{architecture}: a model that fills in masked words ({config.model_type}) is not "
            "supported, nor are its norms behind the layers; language models that read from left "
            "to right are"
        )
    blocks = [mapping[key] for key in mapping if key.endswith("blocks")]
    if not blocks or "unembed" not in mapping:
        raise UnsupportedError(
            f"{architecture}: only language models of stacked layers are supported"
        )
    for block in blocks:
        parts = block.submodules
        if not ({"attn", "self_attn"} & set(parts)) or "mlp" not in parts:
            raise UnsupportedError(
                f"{architecture}: its layers are not attention plus MLP (state-space layers are "
                "not supported)"
            )
        if "MoE" in type(parts["mlp"]).__name__:
            raise UnsupportedError(
                f"{architecture}: mixture-of-experts layers are not supported: which expert runs "
                "jumps with the input, and no gradient says by how much"
            )
    if getattr(config, "do_layer_norm_before", True) is False:
        raise UnsupportedError(f"{architecture}: OPT with norms after its layers is not supported")
    if getattr(config, "apply_residual_connection_post_layernorm", False):
        raise UnsupportedError(
            f"{architecture}: a residual connection that starts behind the norm is not supported"
        )
    for name in ("residual_multiplier", "scale_depth"):
        if getattr(config, name, 1.0) not in (None, 1.0):
            raise UnsupportedError(f"{architecture}: a scaled residual ({name}) is not supported")
    sizes = {
        getattr(config, name, None)
        for name in ("encoder_attention_heads", "decoder_attention_heads")
    }
    if len(sizes) > 1 and None not in sizes:
        raise UnsupportedError(
            f"{architecture}: encoder and decoder differ in their number of heads "
            f"({config.encoder_attention_heads} and {config.decoder_attention_heads})"
        )


class _Build:
    """Streams, layers and events as they come."""

    def __init__(
        self,
        model: PreTrainedModel,
        mapping: _Parts,
        layout: Layout,
        d_head: int,
    ) -> None:
        self.model, self.mapping, self.layout, self.d_head = model, mapping, layout, d_head
        self.streams: list[Stream] = []
        self.layers: list[Layer] = []
        self.attentions: list[Attention] = []
        self.mlps: list[MLP] = []
        self._cross: list[Event] = []

    def stream(self, side: str, blocks: list[nn.Module]) -> None:
        """Add one stream with all its layers."""
        encoder, decoder = side == "encoder_blocks", side == "decoder_blocks"
        final = self._final(encoder=encoder, decoder=decoder)
        events: list[Event] = []
        if encoder:  # known only once the decoder is, and put in then
            self._encoder_norm = None if final is None else Norm.of(final)
            self._encoder_final = final
        for block in blocks:
            self._layer(events, block, self.mapping[side].submodules, decoder=decoder)
            if encoder:
                self.layers.pop()
        rows = self.layout.stream_rows[len(self.streams)]
        if not encoder:
            end = final or self.model.get_output_embeddings()
            events.append(ReadsInput(end, None, self.layout.logits_column))
        self.streams.append(Stream(blocks[0], rows, tuple(events)))
        if decoder:
            first = self.streams[0]
            self.streams[0] = Stream(first.entry, first.rows, (*first.events, *self._cross))

    def _final(self, *, encoder: bool, decoder: bool) -> nn.Module | None:
        prefix = "encoder_" if encoder else "decoder_" if decoder else ""
        name = f"{prefix}ln_final"
        return _of(self.model, self.mapping[name]) if name in self.mapping else None

    def _layer(
        self,
        events: list[Event],
        block: nn.Module,
        parts: _Parts,
        *,
        decoder: bool,
    ) -> None:
        before: dict[str, Norm | None] = {}
        after: dict[str, Norm | None] = {}
        mlp_name = "ln3" if "cross_attn" in parts else "ln2"
        for name in ("ln1", "ln2", "ln3"):
            norm = Norm.of(_of(block, parts[name])) if name in parts else None
            before[name], after[name] = (None, norm) if self.layout.bias else (norm, None)
        attention = self._attention(block, parts, "self_attn" if decoder else "attn", before["ln1"])
        heads = self._reads(attention, attention.projections, attention.norm)
        events.append(heads)
        mlp_reads_first = self.layout.parallel
        mlp = self._mlp(block, parts, before, mlp_name)
        reads = ReadsInput(mlp.reader, mlp.norm, mlp.place.column)
        if mlp_reads_first:
            events.append(reads)
        self._add(events, attention, after["ln1"])
        cross = None
        if "cross_attn" in parts:
            cross = self._attention(block, parts, "cross_attn", before["ln2"])
            events.append(self._reads(cross, cross.projections[:1], cross.norm))
            self._cross.append(self._reads(cross, cross.projections[1:], cross.kv_norm))
            self._add(events, cross, after["ln2"])
        if not mlp_reads_first:
            events.append(reads)
        events.append(WritesMLP(mlp, len(self.mlps)))
        self.mlps.append(mlp)
        self._rescale(events, after[mlp_name])
        self.layers.append(Layer(block, attention, heads, cross, mlp))

    def _add(self, events: list[Event], attention: Attention, norm: Norm | None) -> None:
        events.append(WritesHeads(attention, len(self.attentions)))
        self.attentions.append(attention)
        self._rescale(events, norm)

    def _rescale(self, events: list[Event], norm: Norm | None) -> None:
        if norm is not None:
            events.append(Rescales(norm, sum(isinstance(event, Rescales) for event in events)))

    def _reads(
        self, attention: Attention, projections: tuple[Projection, ...], norm: Norm | None
    ) -> ReadsHeads:
        columns = tuple(attention.place.columns[PORTS.index(p.port)] for p in projections)
        at = projections[0].module if norm is None else norm.module
        return ReadsHeads(projections, columns, norm, at)

    def _attention(
        self,
        block: nn.Module,
        parts: _Parts,
        name: str,
        norm: Norm | None,
    ) -> Attention:
        module = _of(block, parts[name])
        place: AttentionPlace = self.layout.attentions[len(self.attentions)]
        names = parts[name].submodules
        post = None
        if "ln1_post" in parts:
            post = Norm.of(_of(block, parts["ln1_post"]))
        output = _of(module, names["o"])
        if post is not None and (post.kind != "rms" or post.bias is not None or output.bias):
            raise UnsupportedError(
                f"{type(self.model).__name__}: a norm after attention that centres or adds a "
                "constant is not supported"
            )
        return Attention(
            module,
            self._projections(module, names),
            norm,
            self._encoder_norm if place.cross else norm,
            output,
            post,
            place,
        )

    def _projections(
        self, attention: nn.Module, names: _Parts
    ) -> tuple[Projection, Projection, Projection]:
        kind, size = self.model.config.get_text_config().model_type, self.d_head
        made, offset = [], 0
        for place, port in enumerate(PORTS):
            heads = self.layout.n_heads if port == "q" else self.layout.n_kv_heads
            fused = "qkv" in names
            module = _of(attention, names["qkv" if fused else port])
            if not fused:
                made.append(Projection(port, module, heads, size, 0, size))
            elif kind in _CONCATENATED:
                made.append(Projection(port, module, heads, size, offset, size))
            elif kind in _INTERLEAVED:
                made.append(Projection(port, module, heads, size, place * size, 3 * size))
            else:
                raise UnsupportedError(
                    f"{type(self.model).__name__}: the order of q, k and v in its fused "
                    "projection is not known"
                )
            offset += heads * size
        q, k, v = made
        return q, k, v

    def _mlp(
        self,
        block: nn.Module,
        parts: _Parts,
        norms: Mapping[str, Norm | None],
        norm_name: str,
    ) -> MLP:
        owner = _of(block, parts["mlp"])
        names = parts["mlp"].submodules
        hidden = _of(owner, names["out"])
        output = hidden
        if "ln2_post" in parts:
            output = _of(block, parts["ln2_post"])
        place: MLPPlace = self.layout.mlps[len(self.mlps)]
        own, shared = norms[norm_name], None
        if own is not None:
            reader = own.module
        else:
            # Behind attention's norm (GPT-J), or the raw stream (OLMo 2, BART).
            reader = owner if owner is not block else _of(block, names["in"])
            shared = norms["ln1"] if self.layout.parallel else None
            if norms["ln1"] is not None and shared is None:
                raise UnsupportedError(
                    f"{type(self.model).__name__}: an MLP without a norm of its own is not known"
                )
        return MLP(reader, shared, hidden, output, place)
