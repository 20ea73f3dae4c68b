"""Run a model on edges with gates.

Reader v is given

    x'_v + sum over edges u -> v of z(u -> v) (a_u - a'_u),

with z from 0 to 1: the executor's own formula, whose circuits have gates of 0 and 1 alone. Every
reader is given an input of its own. A gradient reaches the gates, what the sources wrote, and the
constants that stand in for them where these ask for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.intervention.ablation import AblatedRun
from circuits.intervention.gated_sums import GatedSums
from circuits.intervention.head_readers import COMPUTED, HeadReaders
from circuits.intervention.picking import IndexLists, made_in_vain
from circuits.models import HookedModel, SourceActivations
from circuits.models.hooks import Hooks
from circuits.models.placement import through
from circuits.models.view import Event, ReadsHeads, ReadsInput, Stream, WritesHeads, WritesMLP

_BLOCK = 64
"""Readers that are begun together, so that what the sources wrote is read once for all of them."""

Reads = ReadsHeads | ReadsInput
Inputs = Float[Tensor, "reader token d_model"]


class GatedEdges:
    """One forward pass, and what its backward pass leaves.

    gradient: float32, of what is differentiated, at the gates; 0 where there is no edge.
    """

    def __init__(
        self,
        model: HookedModel,
        reference: AblatedRun,
        gates: Float[Tensor, "source reader"],
        *,
        by_corruption: bool,
    ) -> None:
        """by_corruption: whether the reference is the corrupted run, and not constants."""
        view = model.view
        if not view.linear:
            raise CircuitsError(
                "edges of post-norm models have no gates: what a source brings to a reader is "
                "scaled by the norms of the run; take nodes or neurons (level=...)"
            )
        mask = model.layout.mask.to(model.device)
        gates = gates.detach().to(model.device) * mask
        self.gradient = torch.zeros_like(gates, dtype=torch.float32)
        self._mask, self._streams = mask, []
        self._live = SourceActivations(view, attached=True)
        picks = IndexLists(model.device), made_in_vain(reference.states.inputs[0])
        for index, stream in enumerate(view.streams):
            rows = stream.rows
            sums = GatedSums(gates[rows], self.gradient[rows], reference.states.inputs[index])
            inputs = _Inputs(stream, index, (self._live, reference), sums, by_corruption)
            self._streams.append((stream, inputs))
            for event in stream.events:
                if isinstance(event, ReadsHeads):
                    inputs.serve(event, reference, picks)
                elif isinstance(event, ReadsInput):
                    inputs.columns[event] = [event.column]
            inputs.plan()

    def attach(self, hooks: Hooks) -> None:
        """Record the live sources and replace the readers."""
        self._live.record(hooks)
        for stream, inputs in self._streams:
            for event in stream.events:
                if isinstance(event, ReadsHeads):
                    for readers in inputs.heads[event]:
                        hooks.replace(readers.module, partial(readers.circuit_output, inputs))
                elif isinstance(event, ReadsInput):
                    hooks.before(event.module, partial(_entering, inputs, event))

    def of_edges(self) -> Float[Tensor, "source reader"]:
        """The gradient at the gates, behind the backward pass."""
        return self.gradient * self._mask


@dataclass(eq=False)
class _Block:
    """Readers that are begun together. start: how many sources had written by then."""

    events: list[Reads] = field(default_factory=list)
    start: int = 0
    parts: dict[Reads, Inputs] | None = None


class _Inputs:
    """Inputs of one stream's readers.

    columns: of each event's readers, in the order of their features. heads: by event, readers of
    each module.
    """

    def __init__(
        self,
        stream: Stream,
        index: int,
        runs: tuple[SourceActivations, AblatedRun],
        sums: GatedSums,
        by_corruption: bool,
    ) -> None:
        self.columns: dict[Reads, list[int]] = {}
        self.heads: dict[ReadsHeads, list[HeadReaders]] = {}
        self._stream, self._index, self._sums = stream, index, sums
        self._live, self._reference = runs
        self._by_corruption = by_corruption
        self._blocks: dict[Reads, _Block] = {}
        self._passed = -1
        self._constants: Tensor | None = None  # what all sources so far give, and biases
        self._made: tuple[Reads, Inputs] | None = None

    def serve(
        self, event: ReadsHeads, reference: AblatedRun, picks: tuple[IndexLists, int]
    ) -> None:
        """Note the readers of an attention."""
        state = [COMPUTED] * self._sums.gates.shape[1]
        served: list[int] = []
        self.heads[event] = []
        for module in event.modules:
            values = reference.values[module]
            head_readers = HeadReaders.of(event, module, state, values, picks, len(served))
            assert head_readers is not None
            self.heads[event].append(head_readers)
            served += head_readers.served
        self.columns[event] = served

    def plan(self) -> None:
        """Divide the readers into blocks."""
        block, count = _Block(), 0
        for event, columns in self.columns.items():
            if count + len(columns) > _BLOCK and count:
                block, count = _Block(), 0
            block.events.append(event)
            count += len(columns)
            self._blocks[event] = block

    def of(self, event: Reads, rows: range) -> Iterator[tuple[slice, Inputs]]:
        """Inputs of some readers of an event, through its norm if any."""
        if self._made is None or self._made[0] is not event:
            self._made = event, self._input(event)
        yield slice(0, len(rows)), self._made[1][rows.start : rows.stop]

    def of_single(self, event: ReadsInput) -> Float[Tensor, "token d_model"]:
        """The input of an event's only reader."""
        return self._input(event)[0]

    def _input(self, event: Reads) -> Inputs:
        self._until(event)
        block, columns = self._blocks[event], self.columns[event]
        if block.parts is None:
            block.start = self._sums.written
            columns_by_event = [self.columns[e] for e in block.events]
            block_sums = self._sums.of(
                [column for event_columns in columns_by_event for column in event_columns], 0
            )
            sizes = [len(event_columns) for event_columns in columns_by_event]
            block.parts = dict(zip(block.events, block_sums.split(sizes), strict=True))
        sums = block.parts.pop(event)
        if block.start < self._sums.written:
            sums = sums + self._sums.of(columns, block.start)
        base = self._reference.inputs[event] if self._by_corruption else self._constants
        assert base is not None
        inputs = sums + base.reshape(1, *sums.shape[1:])
        return inputs if event.norm is None else through(event.norm.module, inputs)

    def _until(self, event: Event) -> None:
        """Take what the sources wrote before an event."""
        live, reference = self._live, self._reference.states
        if not self._sums.written:
            entered = reference.inputs[self._index]
            self._sums.write(live.inputs[self._index] - entered)
            self._add(entered)
        while (passed := self._stream.events[self._passed + 1]) is not event:
            self._passed += 1
            if isinstance(passed, WritesMLP):
                written = reference.mlp[passed.index]
                self._sums.write(live.mlp[passed.index] - written)
                self._add(written)
            elif isinstance(passed, WritesHeads):
                z, weight = reference.z[passed.index], passed.attention.output_weight
                self._sums.write(live.z[passed.index] - z, weight)
                self._add(z.flatten(2) @ weight.flatten(0, 1))
                if passed.attention.output_bias is not None:
                    self._add(passed.attention.output_bias)

    def _add(self, value: Tensor) -> None:
        if not self._by_corruption:
            self._constants = value if self._constants is None else self._constants + value


def _entering(inputs: _Inputs, event: ReadsInput, x: Tensor) -> Tensor:
    return inputs.of_single(event).reshape(x.shape)
