"""What a circuit's sources bring to their readers in one run, against the reference."""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.intervention.picking import IndexLists, Picked
from circuits.models import SourceActivations
from circuits.models.view import (
    Attention,
    Event,
    ReadsHeads,
    ReadsInput,
    Rescales,
    Stream,
    WritesHeads,
    WritesMLP,
)


class Differences:
    """Differences of a stream's used sources between this run and the reference, as readers see
    them. A token is a position of an example.

    rows: of the sources whose differences are made, in the order in which they write: those that
        are used, and heads beside them where all of an attention's are quicker made than some.
    """

    def __init__(
        self,
        stream: Stream,
        live: SourceActivations,
        reference: SourceActivations,
        used: Collection[int],
        picks: tuple[IndexLists, int],
    ) -> None:
        """used: rows of the stream. picks: the run's, and how many heads may be made in vain."""
        self.stream, self.index = stream, live.view.streams.index(stream)
        self.runs = (live, reference)
        self._heads: dict[Attention, Picked] = {}
        picker, vain = picks
        computed = set(used)
        for event in stream.events:
            if isinstance(event, WritesHeads):
                rows = event.attention.place.rows
                heads = [head for head, row in enumerate(_span(rows)) if row in computed]
                if not heads:
                    continue
                if event.attention.n_heads - len(heads) <= vain:
                    heads = list(range(event.attention.n_heads))
                    computed.update(_span(rows))
                self._heads[event.attention] = picker.pick(heads)
        self.rows = sorted(computed)
        self._place = {row: index for index, row in enumerate(self.rows)}
        self._written, self._passed = 0, -1
        # A run each where norms rescale what sources wrote, else the difference alone.
        self._values: Tensor | None = None

    def until(self, event: ReadsHeads | ReadsInput) -> Float[Tensor, "source token d_model"]:
        """Differences of the first of `rows`, those that have written by then."""
        live, reference = self.runs
        entering = live.inputs[self.index]
        if self._values is None:
            runs = 1 if live.view.linear else 2
            tokens = entering.shape[:2].numel()
            self._values = entering.new_empty(runs, len(self.rows), tokens, entering.shape[2])
            self._write(self.stream.rows.start, entering, reference.inputs[self.index])
            if runs == 2 and self.stream.rows.start + 1 in self._place:
                self._values[:, self._written] = 0
                self._written += 1
        while self.stream.events[self._passed + 1] is not event:
            self._passed += 1
            self._pass_by(self.stream.events[self._passed])
        ready = self._values[:, : self._written]
        return ready[0] if len(ready) == 1 else ready[0] - ready[1]

    def _pass_by(self, event: Event) -> None:
        if isinstance(event, WritesMLP):
            self._write(event.mlp.place.row, *[run.mlp[event.index] for run in self.runs])
        elif isinstance(event, WritesHeads):
            self._write_heads(event)
            self._constant(event.attention.output_bias)
        elif isinstance(event, Rescales):
            assert self._values is not None
            norm, written = event.norm, self._values[:, : self._written]
            for values, run in zip(written, self.runs, strict=True):
                sigma = run.sigmas[self.index, event.index].flatten(0, 1)
                scale = norm.weight / sigma.to(values.dtype)
                values.copy_(norm.centred(values) * scale)
            self._constant(norm.bias)

    def _write(self, row: int, live: Tensor, reference: Tensor) -> None:
        """What a source wrote in this run and in the reference."""
        if row not in self._place:
            return
        assert self._values is not None
        written = self._values[:, self._written].unflatten(1, live.shape[:2])
        if len(written) == 1:
            torch.sub(live, reference, out=written[0])
        else:
            written[0], written[1] = live, reference
        self._written += 1

    def _write_heads(self, event: WritesHeads) -> None:
        if event.attention not in self._heads:
            return
        assert self._values is not None
        heads = self._heads[event.attention]
        weight = heads.of(event.attention.output_weight, 0)
        written = self._values[:, self._written : self._written + len(heads)]
        live, reference = (run.z[event.index] for run in self.runs)
        narrow = [live - reference] if len(written) == 1 else [live, reference]
        for out, z in zip(written, narrow, strict=True):
            torch.bmm(heads.of(z, 2).flatten(0, 1).transpose(0, 1), weight, out=out)
        self._written += len(heads)

    def _constant(self, bias: Tensor | None) -> None:
        row = self.stream.rows.start + 1
        if bias is None or self._values is None or len(self._values) == 1 or row not in self._place:
            return
        self._values[:, self._place[row]] += bias


def _span(rows: slice) -> range:
    return range(rows.start, rows.stop)
