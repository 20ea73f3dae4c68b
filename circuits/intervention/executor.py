"""Run a model on a circuit.

With a the sources' outputs in this run and a' those of the reference (the corrupted run, unless
another replacement is asked for), reader v is given

    x'_v + sum over kept edges u -> v of (a_u - a'_u),

with x'_v the stream that v reads in the reference. Only the q/k/v projections' outputs and the
inputs of the MLPs and of the logits' reader are replaced; the model's own attention and MLP code
does the rest. Readers with no kept edge take the reference's value, readers with all of theirs are
left alone, only the sources that some other reader uses are widened, and a projection whose outputs
are all replaced is not computed: a small circuit costs little more than a forward pass. No edge
kept gives the reference's logits, all kept the clean ones.

Where norms rescale the stream itself (BART), a_u - a'_u is the difference of what u brings to v:
each run's share carried through its own norms (see `models/stream.py`). That is the difference
which the scores multiply with the gradient, and it keeps both ends exact: all shares together,
the source `bias` among them, are the stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph import AnyCircuit, Circuit, NodeCircuit
from circuits.intervention.node_run import NodeRun
from circuits.intervention.replacement import Constants, Reference
from circuits.models import HookedModel, SourceStates
from circuits.models.hooks import Hooks
from circuits.models.norm import Norm
from circuits.models.view import (
    Projection,
    ReadsHeads,
    ReadsInput,
    Rescales,
    Stream,
    WritesHeads,
    WritesMLP,
)
from circuits.planning.buffers import INPUT_BYTES
from tasks.pairs import PairBatch

Logits = Float[Tensor, "read vocab"]
_CORRUPTED, _COMPUTED, _ALONE = 0, 1, 2  # what a reader is given
_FEW = 4  # kept edges a reader, up to which adding them one by one beats a product with all


class Executor:
    """Runs circuits on one batch; they share its clean and reference runs.

    clean, corrupted: float32 logits at the batch's reads. corrupted is the reference's: of no edge.
    """

    def __init__(
        self, model: HookedModel, batch: PairBatch, constants: Constants | None = None
    ) -> None:
        """Run the batch clean and corrupted once.

        constants: what stands in for the sources left out, from `replacement.constants`; None
            replaces them by the corrupted run.
        """
        self.model, self.batch = model, batch
        self._by_corruption = constants is None
        self._rest, self._prefix = model.split(batch) if constants is None else (batch, None)
        with torch.no_grad():
            self.clean: Logits = self._run(Hooks())
            if constants is None:
                self._reference, corrupted = Reference.corrupted(model, self._rest, self._prefix)
                self.corrupted: Logits = corrupted
            else:
                self._reference = Reference.constant(constants(model, batch))
                self.corrupted = self.logits(Circuit.empty(model.layout))

    def logits(self, circuit: AnyCircuit) -> Logits:
        """Logits at the batch's reads with only the circuit's edges, nodes or neurons left."""
        if circuit.layout != self.model.layout:
            raise CircuitsError(
                f"a circuit of a model with {circuit.layout.summary} cannot run on one with "
                f"{self.model.layout.summary}"
            )
        hooks = Hooks()
        if isinstance(circuit, NodeCircuit):
            run = NodeRun(self.model, self._reference, circuit)
            if run.needs_neurons and not self._reference.states.hidden:
                self._record_neurons()
            run.attach(hooks)
        else:
            CircuitRun(self.model, self._reference, circuit.mask).attach(hooks)
        return self._run(hooks)

    def _record_neurons(self) -> None:
        """Neurons of the corrupted run, by one more of it, when the first circuit asks for them."""
        if not self._by_corruption:
            raise CircuitsError(
                "these means are of whole MLPs; for circuits of neurons take them by "
                "Means.of(..., neurons=True)"
            )
        hooks = Hooks()
        self._reference.states.record_neurons(hooks)
        with torch.no_grad():
            self.model.logits(self._rest.corrupted, self._rest, hooks, self._prefix)

    def _run(self, hooks: Hooks) -> Logits:
        with torch.no_grad():
            return self.model.logits(self._rest.clean, self._rest, hooks, self._prefix)


class CircuitRun:
    """One forward pass on a circuit."""

    def __init__(
        self, model: HookedModel, reference: Reference, keep: Bool[Tensor, "source reader"]
    ) -> None:
        self.view, self.keep, self.reference = model.view, keep, reference
        self.live = SourceStates(model.view)
        kept = keep.sum(dim=0)
        visible = model.layout.mask.sum(dim=0)
        self.state: list[int] = torch.where(
            kept == 0, _CORRUPTED, torch.where(kept == visible, _ALONE, _COMPUTED)
        ).tolist()
        used = keep[:, torch.tensor(self.state) == _COMPUTED].any(dim=1)
        self.walks = {
            stream: _Walk(stream, index, self.live, reference.states, used)
            for index, stream in enumerate(self.view.streams)
        }

    def attach(self, hooks: Hooks) -> None:
        """Record the live sources and replace the readers."""
        self.live.record(hooks)
        for stream in self.view.streams:
            for event in stream.events:
                if isinstance(event, ReadsHeads):
                    for module, parts in event.modules.items():
                        states = {state for _, columns in parts for state in self.state[columns]}
                        if states == {_ALONE}:
                            continue
                        values = self.reference.values[module]
                        edit = partial(self._projected, stream, event, parts, values)
                        (hooks.after if _ALONE in states else hooks.instead)(module, edit)
                elif isinstance(event, ReadsInput) and self.state[event.column] != _ALONE:
                    hooks.before(event.module, partial(self._entering, stream, event))

    def _entering(self, stream: Stream, event: ReadsInput, x: Tensor) -> Tensor:
        inputs = self._inputs(stream, event, [event.column])[0]
        if event.norm is not None:
            inputs = event.norm.module.forward(inputs)
        return inputs.reshape(x.shape)

    def _projected(
        self,
        stream: Stream,
        event: ReadsHeads,
        parts: list[tuple[Projection, slice]],
        reference: Float[Tensor, "batch pos feature"],
        output: Float[Tensor, "batch_or_0 pos feature"],
    ) -> Float[Tensor, "batch pos feature"]:
        """A projection's output with each head's reader given its own input. `output`, the model's
        own, has no rows if no reader is left alone.
        """
        new = reference.clone()
        for projection, columns in parts:
            states = self.state[columns]
            mine = projection.heads(new)
            alone = [head for head, state in enumerate(states) if state == _ALONE]
            if alone:
                mine[:, :, alone] = projection.heads(output)[:, :, alone]
            computed = [head for head, state in enumerate(states) if state == _COMPUTED]
            weight, bias = projection.weight, projection.bias
            for heads in self._at_once(computed):
                inputs = self._inputs(stream, event, [columns.start + head for head in heads])
                normed = inputs if event.norm is None else _normed(event.norm, inputs)
                value = normed.flatten(1, 2) @ weight[heads]
                if bias is not None:
                    value += bias[heads].unsqueeze(1)
                mine[:, :, heads] = value.view(*normed.shape[:3], -1).permute(1, 2, 0, 3)
        return new

    def _at_once(self, heads: list[int]) -> Iterator[list[int]]:
        """Heads in groups whose inputs fit in `INPUT_BYTES`."""
        stream = self.live.inputs[0]
        size = max(1, INPUT_BYTES // (stream.numel() * stream.element_size()))
        for start in range(0, len(heads), size):
            yield heads[start : start + size]

    def _inputs(
        self, stream: Stream, event: ReadsHeads | ReadsInput, columns: list[int]
    ) -> Float[Tensor, "reader batch pos d_model"]:
        """What the readers at these columns are given."""
        like = self.live.inputs[self.view.streams.index(stream)]
        reference = self.reference.inputs[event].view(like.shape)
        rows, deltas = self.walks[stream].until(event)
        inputs = like.new_empty(len(columns), *like.shape)
        keep = self.keep[rows][:, columns].T
        if keep.sum() > _FEW * len(columns):
            inputs.copy_(reference)
            return inputs.flatten(1).addmm_(keep.to(deltas), deltas.flatten(1)).view(inputs.shape)
        for mine, places in zip(inputs, keep, strict=True):
            now = reference
            for place in places.nonzero().flatten().tolist():
                now = torch.add(now, deltas[place], out=mine)
            if now is reference:
                mine.copy_(reference)
        return inputs


def _normed(
    norm: Norm, x: Float[Tensor, "reader batch pos d_model"]
) -> Float[Tensor, "reader batch pos d_model"]:
    normed: Tensor = norm.module.forward(x)
    return normed


class _Walk:
    """Differences of a stream's used sources between this run and the reference, as readers see
    them.
    """

    def __init__(
        self,
        stream: Stream,
        index: int,
        live: SourceStates,
        reference: SourceStates,
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
