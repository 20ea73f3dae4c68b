"""What a circuit's sources bring to their readers in one run, against the reference."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.models import SourceActivations
from circuits.models.view import (
    ReadsHeads,
    ReadsInput,
    Rescales,
    Stream,
    WritesHeads,
    WritesMLP,
)


class Differences:
    """Differences of a stream's used sources between this run and the reference, as readers see
    them.
    """

    def __init__(
        self,
        stream: Stream,
        index: int,
        live: SourceActivations,
        reference: SourceActivations,
        used: Bool[Tensor, " source"],
    ) -> None:
        self.stream, self.index = stream, index
        self.runs = (live, reference)
        self.used = [row for row in range(stream.rows.start, stream.rows.stop) if used[row]]
        self.place = {row: place for place, row in enumerate(self.used)}
        self.rows: list[int] = []
        self.passed = -1
        # A run each where norms rescale what sources wrote, else the difference alone.
        self.values: Tensor | None = None

    def until(
        self, event: ReadsHeads | ReadsInput
    ) -> tuple[list[int], Float[Tensor, "source batch pos d_model"]]:
        """Rows of the used sources that have written by then, and their differences."""
        live, reference = self.runs
        entering = live.inputs[self.index]
        if self.values is None:
            runs = 1 if live.view.linear else 2
            self.values = entering.new_empty(runs, len(self.used), *entering.shape)
            self._write(self.stream.rows.start, entering, reference.inputs[self.index])
            if runs == 2:
                self._write(self.stream.rows.start + 1, *[torch.zeros_like(entering)] * 2)
        while self.stream.events[self.passed + 1] is not event:
            self.passed += 1
            self._pass_by(self.stream.events[self.passed])
        ready = self.values[:, : len(self.rows)]
        return self.rows, ready[0] if len(ready) == 1 else ready[0] - ready[1]

    def _write(self, row: int, *values: Tensor) -> None:
        """What a source wrote in this run and in the reference."""
        if row not in self.place:
            return
        assert self.values is not None
        self.rows.append(row)
        if len(self.values) == 1:
            torch.sub(*values, out=self.values[0, self.place[row]])
        else:
            self.values[0, self.place[row]], self.values[1, self.place[row]] = values

    def _write_head(self, row: int, weight: Tensor, live: Tensor, reference: Tensor) -> None:
        assert self.values is not None
        if len(self.values) == 2:
            self._write(row, live @ weight, reference @ weight)
            return
        self.rows.append(row)
        torch.matmul(live - reference, weight, out=self.values[0, self.place[row]])

    def _pass_by(self, event: object) -> None:
        if isinstance(event, WritesMLP):
            row = event.mlp.place.row
            self._write(row, *[run.mlp[event.index] for run in self.runs])
        elif isinstance(event, WritesHeads):
            first = event.attention.place.rows.start
            wanted = [head for head in range(event.attention.n_heads) if first + head in self.place]
            weight = event.attention.output_weight
            for head in wanted:
                z = [run.z[event.index][:, :, head] for run in self.runs]
                self._write_head(first + head, weight[head], *z)
            self._constant(event.attention.output_bias)
        elif isinstance(event, Rescales):
            assert self.values is not None
            norm = event.norm
            for values, run in zip(self.values, self.runs, strict=True):
                scale = norm.weight / run.sigmas[self.index, event.index].to(values.dtype)
                values.copy_(norm.centred(values) * scale)
            self._constant(norm.bias)

    def _constant(self, bias: Tensor | None) -> None:
        row = self.stream.rows.start + 1
        if bias is None or self.values is None or len(self.values) == 1 or row not in self.place:
            return
        self.values[:, self.place[row]] += bias
