"""From a Hugging Face model to its `View`.

`named_parts.py` has what TransformerLens names in a model. What its adapter does not say (where a
fused projection keeps its heads, whether a norm stands before or after its sublayer) is said here
by model type; `selfcheck.py` proves the outcome. What does not fit is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from circuits.errors import UnsupportedError
from circuits.graph.layout import Layout
from circuits.graph.node import PORTS, AttentionPlace, MLPPlace
from circuits.models.activation_functions import ACTIVATIONS
from circuits.models.adapter_layers import adapter_layer_types
from circuits.models.named_parts import Parts, module_of, named_parts
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
# The norms follow attention and MLP on the stream itself: x = norm(x + attention(x)).
_POST_NORM = ("bart",)
# What gives each position its own output.
_BY_POSITION: tuple[type, ...] = (nn.Linear, Conv1D, QuantisedLinear, *ACTIVATIONS)


def describe(model: PreTrainedModel) -> View:
    """Describe a model; a `CircuitsError` says what does not fit."""
    config, mapping = named_parts(model)
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
    mapping = named_parts(model)[1]
    return _tail(model, mapping), _recomputable(model, mapping)


def _blocks(model: PreTrainedModel, mapping: Parts, side: str) -> list[nn.Module]:
    return list(module_of(model, mapping[side]).children())


def _recomputable(model: PreTrainedModel, mapping: Parts) -> Recomputable:
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
                owner = module_of(block, parts["mlp"])
                added.append(module_of(owner, parts["mlp"].submodules["out"]))
    return Recomputable(tuple(layers[:-1]), tuple(added))


def _tail(model: PreTrainedModel, mapping: Parts) -> tuple[nn.Module, ...]:
    blocks = mapping["decoder_blocks" if "decoder_blocks" in mapping else "blocks"]
    block, parts = list(module_of(model, blocks).children())[-1], blocks.submodules
    shared = set()
    for part in (parts[name] for name in ("attn", "self_attn", "cross_attn") if name in parts):
        attention, names = module_of(block, part), part.submodules
        for port in ("qkv",) if "qkv" in names else ("k", "v"):
            shared.add(module_of(attention, names[port]))
    return tuple(_by_position(block, shared))


def _by_position(module: nn.Module, left_out: set[nn.Module]) -> Iterator[nn.Module]:
    """What of a module works on each position alone, an adapted map with its adapter as one."""
    for child in module.children():
        if child in left_out:
            continue
        if isinstance(child, (*_BY_POSITION, *adapter_layer_types())):
            yield child
        else:
            yield from _by_position(child, left_out)


class _Build:
    """Streams, layers and events as they come."""

    def __init__(
        self,
        model: PreTrainedModel,
        mapping: Parts,
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
        return module_of(self.model, self.mapping[name]) if name in self.mapping else None

    def _layer(
        self,
        events: list[Event],
        block: nn.Module,
        parts: Parts,
        *,
        decoder: bool,
    ) -> None:
        before: dict[str, Norm | None] = {}
        after: dict[str, Norm | None] = {}
        mlp_name = "ln3" if "cross_attn" in parts else "ln2"
        for name in ("ln1", "ln2", "ln3"):
            norm = Norm.of(module_of(block, parts[name])) if name in parts else None
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
        parts: Parts,
        name: str,
        norm: Norm | None,
    ) -> Attention:
        module = module_of(block, parts[name])
        place: AttentionPlace = self.layout.attentions[len(self.attentions)]
        names = parts[name].submodules
        post = None
        if "ln1_post" in parts:
            post = Norm.of(module_of(block, parts["ln1_post"]))
        output = module_of(module, names["o"])
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
        self, attention: nn.Module, names: Parts
    ) -> tuple[Projection, Projection, Projection]:
        kind, size = self.model.config.get_text_config().model_type, self.d_head
        projections, offset = [], 0
        for index, port in enumerate(PORTS):
            heads = self.layout.n_heads if port == "q" else self.layout.n_kv_heads
            fused = "qkv" in names
            module = module_of(attention, names["qkv" if fused else port])
            if not fused:
                projections.append(Projection(port, module, heads, size, 0, size))
            elif kind in _CONCATENATED:
                projections.append(Projection(port, module, heads, size, offset, size))
            elif kind in _INTERLEAVED:
                projections.append(Projection(port, module, heads, size, index * size, 3 * size))
            else:
                raise UnsupportedError(
                    f"{type(self.model).__name__}: the order of q, k and v in its fused "
                    "projection is not known"
                )
            offset += heads * size
        q, k, v = projections
        return q, k, v

    def _mlp(
        self,
        block: nn.Module,
        parts: Parts,
        norms: Mapping[str, Norm | None],
        norm_name: str,
    ) -> MLP:
        owner = module_of(block, parts["mlp"])
        names = parts["mlp"].submodules
        hidden = module_of(owner, names["out"])
        output = hidden
        if "ln2_post" in parts:
            output = module_of(block, parts["ln2_post"])
        place: MLPPlace = self.layout.mlps[len(self.mlps)]
        own, shared = norms[norm_name], None
        if own is not None:
            reader = own.module
        else:
            # Behind attention's norm (GPT-J), or the raw stream (OLMo 2, BART).
            reader = owner if owner is not block else module_of(block, names["in"])
            shared = norms["ln1"] if self.layout.parallel else None
            if norms["ln1"] is not None and shared is None:
                raise UnsupportedError(
                    f"{type(self.model).__name__}: an MLP without a norm of its own is not known"
                )
        return MLP(reader, shared, hidden, output, place)
