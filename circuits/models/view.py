"""A model as residual streams: what writes to each, what reads it, in the order of computation.

Everything that the maths needs of an architecture is said here once, by a list of events for every
stream; attribution, execution and the self-check walk those lists and know no architecture.
`architecture.py` makes the lists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from circuits.graph.layout import Layout
from circuits.graph.node import AttentionPlace, MLPPlace, Port
from circuits.models.norm import Norm
from circuits.models.placement import tensor_of
from circuits.models.quantised import QuantisedLinear, dequantised
from circuits.models.recompute import Recomputable


@dataclass(frozen=True, eq=False)
class Projection:
    """One of an attention's q, k, v: `n_heads` groups of `d_head` features of a module's output.

    offset, stride: of the first group, and from one group to the next; a fused module holds q, k
    and v one after the other (offset) or head by head (stride).
    """

    port: Port
    module: nn.Module
    n_heads: int
    d_head: int
    offset: int
    stride: int

    def heads(self, output: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch head d_head"]:
        """This port's heads in the module's output; a view, so writes go through."""
        end = self.offset + (self.n_heads - 1) * self.stride + self.d_head
        return output[..., self.offset : end].unfold(-1, self.d_head, self.stride)

    def leads_to(self, other: Projection) -> bool:
        """Whether another's heads go on where this one's end, in the same strides."""
        end = self.offset + self.n_heads * self.stride
        return self.stride == other.stride and end == other.offset

    @property
    def weight(self) -> Float[Tensor, "head d_model d_head"]:
        """The projection's matrix, one slice a (KV) head; a view of the model's own."""
        return self.heads(input_major(self.module)).transpose(0, 1)

    @property
    def bias(self) -> Float[Tensor, "head d_head"] | None:
        """The projection's bias, if any."""
        bias = tensor_of(self.module, "bias")
        return None if bias is None else self.heads(bias)


@dataclass(frozen=True, eq=False)
class Attention:
    """One attention: what its heads read from and write with.

    output: the module that mixes the heads; z goes in. post: a norm between it and the stream.
    norm, kv_norm: between the stream and the projections of q, and of k and v; None reads it raw.
    """

    module: nn.Module
    projections: tuple[Projection, Projection, Projection]
    norm: Norm | None
    kv_norm: Norm | None
    output: nn.Module
    post: Norm | None
    place: AttentionPlace

    @property
    def n_heads(self) -> int:
        """Query heads."""
        return self.projections[0].n_heads

    @property
    def output_weight(self) -> Float[Tensor, "head d_head d_model"]:
        """What widens z (over sigma, if a norm follows) to the head's part of the stream."""
        matrix = input_major(self.output)
        weight = matrix.view(self.n_heads, -1, matrix.shape[1])
        return weight if self.post is None else weight * self.post.weight

    @property
    def output_bias(self) -> Float[Tensor, " d_model"] | None:
        """What the output module adds whatever the heads do."""
        return tensor_of(self.output, "bias")


@dataclass(frozen=True, eq=False)
class MLP:
    """One MLP. It reads what goes into `reader` and writes what comes out of `output`.

    norm: set where `reader` stands behind a norm that is not its own (GPT-J's shared one).
    hidden: the module that the neurons' activations go into.
    """

    reader: nn.Module
    norm: Norm | None
    hidden: nn.Module
    output: nn.Module
    place: MLPPlace


@dataclass(frozen=True, eq=False)
class ReadsHeads:
    """q, k, v readers (all of an attention's, or k and v alone) read the stream.

    at: the module that the raw stream goes into. columns: of each projection's readers.
    """

    projections: tuple[Projection, ...]
    columns: tuple[slice, ...]
    norm: Norm | None
    at: nn.Module

    @property
    def span(self) -> slice:
        """Columns of all its readers."""
        return slice(self.columns[0].start, self.columns[-1].stop)

    @cached_property
    def modules(self) -> dict[nn.Module, list[tuple[Projection, slice]]]:
        """Projections with their columns by the module they come from: one if fused."""
        groups: dict[nn.Module, list[tuple[Projection, slice]]] = {}
        for projection, columns in zip(self.projections, self.columns, strict=True):
            groups.setdefault(projection.module, []).append((projection, columns))
        return groups

    @cached_property
    def slots(self) -> dict[nn.Module, dict[int, int]]:
        """By module, the group of `d_head` features in its output that each reader's head is,
        rising, and that reader's column.
        """
        return {
            module: dict(
                sorted(
                    (
                        (projection.offset + head * projection.stride) // projection.d_head,
                        columns.start + head,
                    )
                    for projection, columns in parts
                    for head in range(projection.n_heads)
                )
            )
            for module, parts in self.modules.items()
        }

    @cached_property
    def joined(self) -> dict[nn.Module, list[tuple[Projection, slice]]]:
        """`modules`, where projections whose heads lie one behind the other are one."""
        groups: dict[nn.Module, list[tuple[Projection, slice]]] = {}
        for module, parts in self.modules.items():
            group = groups[module] = parts[:1]
            for part, columns in parts[1:]:
                last, before = group[-1]
                if last.leads_to(part):
                    both = replace(last, n_heads=last.n_heads + part.n_heads)
                    group[-1] = (both, slice(before.start, columns.stop))
                else:
                    group.append((part, columns))
        return groups


@dataclass(frozen=True, eq=False)
class ReadsInput:
    """An MLP or the logits read the stream, as what goes into `module`.

    norm: where the module stands behind a norm that others share; else it reads the raw stream.
    """

    module: nn.Module
    norm: Norm | None
    column: int


@dataclass(frozen=True, eq=False)
class WritesHeads:
    """An attention's heads add to the stream. index: which of `View.attentions`."""

    attention: Attention
    index: int


@dataclass(frozen=True, eq=False)
class WritesMLP:
    """An MLP adds to the stream. index: which of `View.mlps`."""

    mlp: MLP
    index: int


@dataclass(frozen=True, eq=False)
class Rescales:
    """The stream itself is normalised (post-norm models). index: which of the stream's."""

    norm: Norm
    index: int


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: its module and its parts.

    reads: its attention's readers. cross: of an encoder-decoder's decoder.
    """

    block: nn.Module
    attention: Attention
    reads: ReadsHeads
    cross: Attention | None
    mlp: MLP


Event = ReadsHeads | ReadsInput | WritesHeads | WritesMLP | Rescales


@dataclass(frozen=True, eq=False)
class Stream:
    """One residual stream.

    entry: the module that the embedding goes into. rows: of its sources, the embedding first.
    """

    entry: nn.Module
    rows: slice
    events: tuple[Event, ...]

    def __len__(self) -> int:
        length: int = self.rows.stop - self.rows.start
        return length


@dataclass(frozen=True, eq=False)
class View:
    """The whole model: its streams (an encoder's first), and the graph's layout.

    layers: the decoder's. attentions, mlps: all, in the layout's order. tail: linear maps and
    activation functions of the last layer, each of which works on every position alone; keys' and
    values' maps left out, which other positions read. recomputable: what can be run again in the
    backward pass.
    """

    streams: tuple[Stream, ...]
    layers: tuple[Layer, ...]
    attentions: tuple[Attention, ...]
    mlps: tuple[MLP, ...]
    tail: tuple[nn.Module, ...]
    recomputable: Recomputable
    layout: Layout
    d_model: int
    d_head: int

    @property
    def linear(self) -> bool:
        """Whether no norm rescales a stream, so that what a source wrote stays as it was."""
        return not self.layout.bias

    @property
    def sequential(self) -> bool:
        """Whether there is one stream, linear, that every MLP reads by itself."""
        return len(self.streams) == 1 and self.linear and all(m.norm is None for m in self.mlps)

    @property
    def widths(self) -> tuple[int, ...]:
        """How many units each source has: dimensions of a head's z, neurons of an MLP, else 1."""
        widths = [1] * self.layout.shape[0]
        for attention in self.attentions:
            for row in range(attention.place.rows.start, attention.place.rows.stop):
                widths[row] = self.d_head
        for mlp in self.mlps:
            widths[mlp.place.row] = input_size(mlp.hidden)
        return tuple(widths)

    @property
    def final(self) -> nn.Module:
        """The module that the logits' reader stands before."""
        last = self.streams[-1].events[-1]
        assert isinstance(last, ReadsInput)
        return last.module


def input_major(module: nn.Module) -> Float[Tensor, "input output"]:
    """A linear module's matrix as (input, output), whichever way it is stored; what is quantised is
    turned back for whoever asks, and not kept.
    """
    weight = dequantised(module)
    return weight if isinstance(module, Conv1D) else weight.T


def input_size(module: nn.Module) -> int:
    """How many features a linear module reads."""
    return module.shape[1] if isinstance(module, QuantisedLinear) else input_major(module).shape[0]
