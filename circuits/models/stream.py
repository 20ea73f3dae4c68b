"""What every source wrote to the residual stream in one run, kept narrow and widened on demand.

A head's output is kept as z (d_head wide) and widened by W_O only when asked for: n_heads x d_head
numbers a position instead of n_heads x d_model. Where an RMSNorm stands between W_O and the stream
(Gemma 2, OLMo 2), z is kept divided by its sigma in that run, and the norm's weight joins W_O: the
head's exact share of what the norm lets through.

Where the stream itself is normalised (BART), what a source wrote changes on its way: norm n maps a
contribution a to weight * centred(a) / sigma_n, sigma_n being this run's. The contributions then
add up to the stream only together with the constants on the way (biases of attention outputs and
of the norms), which the source `bias` collects: it is a source like any other, for what it brings
to a reader depends, through the sigmas, on the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.models.hooks import Hooks
from circuits.models.norm import Norm
from circuits.models.view import Attention, Event, Rescales, Stream, View, WritesHeads, WritesMLP


@dataclass
class SourceActivations:
    """Source outputs of one run, or the difference of two runs (constants cancel in it).

    inputs: per stream, what enters its first layer. z: per attention, what enters its output
    matrix, over sigma if a norm follows. mlp: per MLP, what it adds to the stream.
    sigmas: per stream and norm on the stream itself, its scale.
    hidden: per MLP, the neurons that its last matrix reads, where they were recorded.
    attached: whether what is recorded stays in the run's graph, so that gradients reach it.
    """

    view: View
    inputs: dict[int, Float[Tensor, "batch _ d_model"]] = field(default_factory=dict)
    z: dict[int, Float[Tensor, "batch _ head d_head"]] = field(default_factory=dict)
    mlp: dict[int, Float[Tensor, "batch _ d_model"]] = field(default_factory=dict)
    sigmas: dict[tuple[int, int], Float[Tensor, "batch _ 1"]] = field(default_factory=dict)
    hidden: dict[int, Float[Tensor, "*batch neuron"]] = field(default_factory=dict)
    attached: bool = False

    def record(self, hooks: Hooks) -> None:
        """Fill this object during the run that `hooks` are in place for.

        Args:
            hooks: of the run.
        """
        for stream_index, stream in enumerate(self.view.streams):
            hooks.before(stream.entry, partial(self._enter, stream_index))
            for event in stream.events:
                if isinstance(event, WritesHeads):
                    attention = event.attention
                    hooks.before(attention.output, partial(self._heads, event.index))
                    if attention.post is not None:
                        share = partial(self._share, event.index, attention.post)
                        hooks.before(attention.post.module, share)
                elif isinstance(event, WritesMLP):
                    hooks.after(event.mlp.output, partial(self._mlp, stream_index, event.index))
                elif isinstance(event, Rescales):
                    scale = partial(self._scale, (stream_index, event.index), event.norm)
                    hooks.before(event.norm.module, scale)

    def record_neurons(self, hooks: Hooks) -> None:
        """Fill `hidden` during the run that `hooks` are in place for.

        Args:
            hooks: of the run.
        """
        for index, mlp in enumerate(self.view.mlps):
            hooks.before(mlp.hidden, partial(self._neurons, index))

    def _neurons(self, index: int, x: Tensor) -> None:
        self.hidden[index] = self._seen(x)

    def _enter(self, stream_index: int, x: Tensor) -> None:
        self.inputs[stream_index] = self._seen(x)

    def _heads(self, index: int, x: Tensor) -> None:
        self.z[index] = self._seen(x).view(*x.shape[:2], self.view.layout.n_heads, -1)

    def _share(self, index: int, norm: Norm, x: Tensor) -> None:
        self.z[index] = (self.z[index] * norm.inverse(self._seen(x))[..., None]).to(x.dtype)

    def _mlp(self, stream_index: int, index: int, x: Tensor) -> None:
        self.mlp[index] = self._seen(x).view(self.inputs[stream_index].shape)

    def _scale(self, key: tuple[int, int], norm: Norm, x: Tensor) -> None:
        self.sigmas[key] = norm.sigma(self._seen(x))

    def _seen(self, x: Tensor) -> Tensor:
        return x if self.attached else x.detach()

    def tensors(self) -> Iterator[Tensor]:
        """All that was recorded."""
        for recorded in (self.inputs, self.z, self.mlp, self.sigmas, self.hidden):
            yield from recorded.values()

    def subtract(self, other: SourceActivations) -> SourceActivations:
        """This run less another; only where sources stay as they were written.

        Args:
            other: another run of the same batch, which is used up: two runs that were one share
                their memory, and it is free when neither holds it.

        Returns:
            This object.
        """
        assert self.view.linear
        for tensors, other_tensors in (
            (self.inputs, other.inputs),
            (self.z, other.z),
            (self.mlp, other.mlp),
        ):
            for key in tensors:
                tensors[key] = tensors[key] - other_tensors.pop(key)
        return self

    def output(self, row: int) -> Float[Tensor, "batch pos d_model"]:
        """One source's output, d_model wide; only where sources stay as they were written.

        Args:
            row: of the source in the layout.

        Returns:
            Its output at every position.
        """
        value, weight = self.written(row)
        return value if weight is None else value @ weight

    def written(
        self, row: int
    ) -> tuple[Float[Tensor, "batch pos width"], Float[Tensor, "width d_model"] | None]:
        """What one source gives, before the matrix that it writes by; as `output` has it.

        Args:
            row: of the source in the layout.

        Returns:
            A head's z and its part of the output matrix; of any other source its output, and None.

        Raises:
            IndexError: the layout has no such row.
        """
        assert self.view.linear
        for stream_index, stream in enumerate(self.view.streams):
            if row == stream.rows.start:
                return self.inputs[stream_index], None
        for index, mlp in enumerate(self.view.mlps):
            if row == mlp.place.row:
                return self.mlp[index], None
        for index, attention in enumerate(self.view.attentions):
            head = row - attention.place.rows.start
            if 0 <= head < attention.n_heads:
                return self.z[index][:, :, head], attention.output_weight[head]
        raise IndexError(row)

    def widened(self, example: int, positions: slice) -> Float[Tensor, "source pos d_model"]:
        """All sources' outputs of one example at some positions of a decoder-only model.

        Args:
            example: its index in the batch.
            positions: which of its positions.

        Returns:
            One output for each source.
        """
        (stream,) = self.view.streams
        wide = DecomposedStream(stream, [self], (example, positions))
        for event in stream.events:
            wide.pass_by(event)
        return wide.values[0]


class DecomposedStream:
    """A stream taken apart at one moment of the walk through its events.

    runs: one run, or a clean and a corrupted one to be told apart by `seen`.
    at: which example (or slice of examples) and positions.
    values: float32, (run, source of the stream, *at, d_model); zero for sources still to come.
    """

    def __init__(
        self,
        stream: Stream,
        runs: Sequence[SourceActivations],
        at: tuple[int | slice, slice],
        room: Float[Tensor, " number"] | None = None,
    ) -> None:
        """Start where the embedding enters.

        room: memory for the values, used again; None takes fresh memory.
        """
        self.stream, self.runs, self.at = stream, runs, at
        self.index = runs[0].view.streams.index(stream)
        inputs = [run.inputs[self.index][at] for run in runs]
        shape = (len(runs), stream.rows.stop - stream.rows.start, *inputs[0].shape)
        if room is None:
            room = torch.empty(prod(shape), device=inputs[0].device)
        self.values = room[: prod(shape)].view(shape).zero_()
        for values, entering in zip(self.values, inputs, strict=True):
            values[0] = entering

    def seen(self, rows: range) -> Float[Tensor, "source *at d_model"]:
        """What these sources (rows of the layout) bring, or the difference between the runs.

        Args:
            rows: of the layout.

        Returns:
            One contribution for each source.
        """
        part = slice(rows.start - self.stream.rows.start, rows.stop - self.stream.rows.start)
        if len(self.runs) == 1:
            return self.values[0, part]
        return self.values[0, part] - self.values[1, part]

    def pass_by(self, event: Event) -> None:
        """Take a step of the walk; readers change nothing.

        Args:
            event: of the stream, in order.
        """
        if isinstance(event, WritesHeads):
            self._heads(event.attention, event.index)
        elif isinstance(event, WritesMLP):
            row = event.mlp.place.row - self.stream.rows.start
            for values, run in zip(self.values, self.runs, strict=True):
                values[row] = run.mlp[event.index][self.at]
        elif isinstance(event, Rescales):
            self._rescale(event)

    def _heads(self, attention: Attention, index: int) -> None:
        start = self.stream.rows.start
        rows = slice(attention.place.rows.start - start, attention.place.rows.stop - start)
        weight = attention.output_weight.float()
        for values, run in zip(self.values, self.runs, strict=True):
            z = run.z[index][self.at].float().flatten(0, -3).transpose(0, 1)
            torch.bmm(z, weight, out=values[rows].flatten(1, -2))
            if attention.output_bias is not None and not run.view.linear:
                values[1] += attention.output_bias.float()

    def _rescale(self, event: Rescales) -> None:
        norm = event.norm
        for values, run in zip(self.values, self.runs, strict=True):
            scale = norm.weight.float() / run.sigmas[self.index, event.index][self.at]
            values.copy_(norm.centred(values) * scale)
            if norm.bias is not None:
                values[1] += norm.bias.float()
