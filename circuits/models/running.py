"""What is in a residual stream at each moment of a run, as one sum that goes along with it.

`Wide` keeps every source by itself, which is what scores need. Where only the sum counts, each
event adds to it once: a model of twice the depth costs twice, where a sum for each reader over all
the sources that it sees would cost four times as much.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from circuits.errors import UnsupportedError
from circuits.models.norm import Norm
from circuits.models.stream import SourceActivations
from circuits.models.view import (
    Event,
    ReadsHeads,
    ReadsInput,
    Rescales,
    Stream,
    View,
    WritesHeads,
    WritesMLP,
)


class Running:
    """The sum of all that a stream's sources wrote, and of the constants beside them, in float32.

    silent: what wrote the same whatever it read, in the run last followed.
    """

    def __init__(self, states: SourceActivations, stream: Stream) -> None:
        """Follow the run that `states` record, while it is under way."""
        self.states, self.stream = states, stream
        self.index = states.view.streams.index(stream)
        self.silent: list[WritesHeads | WritesMLP] = []
        self._entered: Tensor | None = None
        self._sum: Tensor | None = None
        self._event_index = 0

    def before(self, event_index: int, norm: Norm | None) -> Float[Tensor, "batch pos d_model"]:
        """What a reader that is the event of this index is given, through the norm if any."""
        total = self._before(event_index)
        if norm is None:
            return total
        total = norm.normalise(total) * norm.weight.float()
        return total if norm.bias is None else total + norm.bias.float()

    def _before(self, event_index: int) -> Float[Tensor, "batch pos d_model"]:
        entered, total = self.states.inputs[self.index], self._sum
        if total is None or entered is not self._entered or event_index < self._event_index:
            total = entered.float()
            self._entered, self._event_index, self.silent = entered, 0, []
        for event in self.stream.events[self._event_index : event_index]:
            total = self._past(event, total)
        self._event_index, self._sum = event_index, total
        return total

    def _past(self, event: Event, total: Tensor) -> Float[Tensor, "batch pos d_model"]:
        if isinstance(event, Rescales):
            norm = event.norm
            scale = norm.weight.float() / self.states.sigmas[self.index, event.index]
            total = norm.centred(total) * scale
            return total if norm.bias is None else total + norm.bias.float()
        if isinstance(event, WritesMLP):
            return total + self._heard(event, self.states.mlp[event.index].float())
        if isinstance(event, WritesHeads):
            attention = event.attention
            weight = attention.output_weight.float().flatten(0, 1)
            written = self.states.z[event.index].float().flatten(2) @ weight
            total = total + self._heard(event, written)
            bias = attention.output_bias
            return total if bias is None else total + bias.float()
        return total

    def _heard(self, event: WritesHeads | WritesMLP, written: Tensor) -> Tensor:
        if bool((written == written[:1, :1]).all()):
            self.silent.append(event)
        return written


def require_order(view: View, architecture: str) -> None:
    """Refuse a view in which a reader sees other sources than those that wrote before it.

    With this, a sum of all that was written is the sum of the sources that a reader sees.
    """
    for stream in view.streams:
        first = stream.rows.start
        written = first + 1 + view.layout.bias
        for event in stream.events:
            if isinstance(event, WritesHeads):
                rows = event.attention.place.rows
            elif isinstance(event, WritesMLP):
                rows = slice(event.mlp.place.row, event.mlp.place.row + 1)
            else:
                for column in _columns(event):
                    _require_same(architecture, view, column, range(first, written))
                continue
            if rows.start != written:
                raise UnsupportedError(
                    f"{architecture}: the residual-stream view is wrong for this model: "
                    f"{view.layout.sources[rows.start]} does not write where it stands in the "
                    "order of sources; it is not supported"
                )
            written = rows.stop


def _columns(event: Event) -> range:
    if isinstance(event, ReadsHeads):
        return range(event.span.start, event.span.stop)
    return range(event.column, event.column + 1) if isinstance(event, ReadsInput) else range(0)


def _require_same(architecture: str, view: View, column: int, written: range) -> None:
    if view.layout.visible(column) != written:
        raise UnsupportedError(
            f"{architecture}: the residual-stream view is wrong for this model: "
            f"{view.layout.readers[column]} does not read just what was written before it; it is "
            "not supported"
        )
