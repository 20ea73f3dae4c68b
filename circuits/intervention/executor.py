"""Run a model on a circuit.

With a the sources' outputs in this run and a' those of the reference (the corrupted run, unless
another ablation is asked for), reader v is given

    x'_v + sum over kept edges u -> v of (a_u - a'_u),

with x'_v the stream that v reads in the reference. Only the q/k/v projections' outputs and the
inputs of the MLPs and of the logits' reader are replaced; the model's own attention and MLP code
does the rest. Readers with no kept edge take the reference's value, readers with all of theirs are
left alone, only the sources that some other reader uses are widened, and neither a projection whose
outputs are all replaced nor an MLP that nothing comes of is computed: a small circuit costs little
more than a forward pass, or less than one. No edge kept gives the reference's logits, all kept the
clean ones.

Where norms rescale the stream itself (BART), a_u - a'_u is the difference of what u brings to v:
each run's share carried through its own norms (see `models/stream.py`). That is the difference
which the scores multiply with the gradient, and it keeps both ends exact: all shares together,
the source `bias` among them, are the stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph import AnyCircuit, Circuit, NodeCircuit
from circuits.intervention.ablation import AblatedRun, Constants
from circuits.intervention.differences import Differences
from circuits.intervention.head_readers import ALONE, COMPUTED, CORRUPTED, HeadReaders
from circuits.intervention.node_run import NodeRun
from circuits.intervention.picking import IndexLists, made_in_vain
from circuits.intervention.reader_inputs import ReaderInputs
from circuits.models import HookedModel, SourceActivations
from circuits.models.hooks import Hooks
from circuits.models.placement import through
from circuits.models.view import ReadsHeads, ReadsInput, Stream
from tasks.pairs import PairBatch

Logits = Float[Tensor, "read vocab"]


class CircuitRunner:
    """Runs circuits on one batch; they share its clean and reference runs.

    Attributes:
        clean: float32 logits of the whole model at the batch's answer positions.
        corrupted: the same of the reference: of no edge.
    """

    def __init__(
        self, model: HookedModel, batch: PairBatch, constants: Constants | None = None
    ) -> None:
        """Run the batch clean and corrupted once.

        Args:
            model: the model.
            batch: on the model's device.
            constants: what takes the place of removed sources, from `ablation.constants`; None
                takes the corrupted run.
        """
        self.model, self.batch = model, batch
        self._by_corruption = constants is None
        self._rest, self._prefix = model.share_prefix(batch) if constants is None else (batch, None)
        with torch.no_grad():
            self.clean: Logits = self._run(Hooks())
            if constants is None:
                self._reference, corrupted = AblatedRun.corrupted(model, self._rest, self._prefix)
                self.corrupted: Logits = corrupted
            else:
                self._reference = AblatedRun.constant(constants(model, batch))
                self.corrupted = self.logits(Circuit.empty(model.layout))

    def logits(self, circuit: AnyCircuit) -> Logits:
        """Run the model with only a circuit's edges, nodes or neurons left.

        Args:
            circuit: of a model of the same layout.

        Returns:
            float32 logits at the batch's answer positions.

        Raises:
            CircuitsError: for a circuit of another layout, and for a circuit of neurons where the
                means are of whole MLPs.
        """
        if circuit.layout != self.model.layout:
            raise CircuitsError(
                f"a circuit of a model with {circuit.layout.summary} cannot run on one with "
                f"{self.model.layout.summary}"
            )
        hooks = Hooks()
        if isinstance(circuit, NodeCircuit):
            run = NodeRun(self.model, self._reference, circuit.units, circuit.mask)
            if run.needs_neurons:
                self._require_neurons()
            run.attach(hooks)
        else:
            EdgeRun(
                self.model, self._reference, circuit.mask, by_corruption=self._by_corruption
            ).attach(hooks)
        return self._run(hooks)

    def tensors(self) -> Iterator[Tensor]:
        """The runs that circuits share."""
        yield from (self.clean, self.corrupted, *self._reference.tensors())
        if self._prefix is not None:
            yield from self._prefix.tensors()

    @property
    def n_bytes(self) -> int:
        """What the runs that circuits share take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def _require_neurons(self) -> None:
        """Neurons of the corrupted run, by one more of it, when the first circuit asks for them."""
        if self._reference.states.hidden:
            return
        if not self._by_corruption:
            raise CircuitsError(
                "these means are of whole MLPs; for circuits of neurons take them by "
                "MeanActivations.of(..., neurons=True)"
            )
        hooks = Hooks()
        self._reference.states.record_neurons(hooks)
        with torch.no_grad():
            self.model.logits(self._rest.corrupted, self._rest, hooks, self._prefix)

    def _run(self, hooks: Hooks) -> Logits:
        with torch.no_grad():
            return self.model.logits(self._rest.clean, self._rest, hooks, self._prefix)


class EdgeRun:
    """One forward pass on a circuit."""

    def __init__(
        self,
        model: HookedModel,
        reference: AblatedRun,
        keep: Bool[Tensor, "source reader"],
        *,
        by_corruption: bool,
    ) -> None:
        """by_corruption: whether the reference is the corrupted run, and not constants."""
        self.view, self.reference = model.view, reference
        self.keep: npt.NDArray[np.bool_] = keep.numpy()
        self.live = SourceActivations(model.view)
        n_kept, visible = self.keep.sum(axis=0), model.layout.mask.numpy().sum(axis=0)
        state = np.where(n_kept == 0, CORRUPTED, np.where(n_kept == visible, ALONE, COMPUTED))
        self.state: list[int] = state.tolist()
        self.idle = self._idle(by_corruption) if self.view.linear else set()
        self.heads: dict[ReadsHeads, list[HeadReaders]] = {}
        self.inputs: dict[Stream, ReaderInputs] = {}
        picker = IndexLists(model.device)
        for stream in self.view.streams:
            self._serve(stream, picker)

    def _serve(self, stream: Stream, picker: IndexLists) -> None:
        """Who is given what in a stream."""
        states = self.reference.states
        picks = picker, made_in_vain(states.inputs[self.view.streams.index(stream)])
        readers: list[tuple[ReadsHeads | ReadsInput, int]] = []
        served: list[int] = []
        for event in stream.events:
            start = len(served)
            if isinstance(event, ReadsHeads):
                self.heads[event] = []
                for module in event.modules:
                    values = self.reference.values[module]
                    args = event, module, self.state, values, picks, len(served)
                    if (head_readers := HeadReaders.of(*args)) is not None:
                        self.heads[event].append(head_readers)
                        served += head_readers.served
            elif isinstance(event, ReadsInput):
                due = self.state[event.column] == COMPUTED and event.column not in self.idle
                served += [event.column] if due else []
            else:
                continue
            readers.append((event, len(served) - start))
        keep = self.keep[:, served]
        rows = slice(stream.rows.start, stream.rows.stop)
        used = (np.flatnonzero(np.any(keep[rows], axis=1)) + rows.start).tolist()
        differences = Differences(stream, self.live, states, used, picks)
        keep = np.ascontiguousarray(keep[differences.rows].T)
        self.inputs[stream] = ReaderInputs(differences, self.reference, readers, keep)

    def _idle(self, by_corruption: bool) -> set[int]:
        """MLPs (by column) that need not run: no reader wants what they write, or they write what
        they wrote in the reference, where that was a run.

        Where norms rescale the stream itself, every MLP has a part in their scales.
        """
        read = np.any(self.keep, axis=1)
        return {
            mlp.place.column
            for mlp in self.view.mlps
            if not read[mlp.place.row]
            or (by_corruption and self.state[mlp.place.column] == CORRUPTED)
        }

    def attach(self, hooks: Hooks) -> None:
        """Record the live sources and replace the readers."""
        for index, mlp in enumerate(self.view.mlps):
            if mlp.place.column in self.idle:
                hooks.after(mlp.output, partial(_instead, self.reference.states.mlp[index]))
        if any(inputs.keep.any() for inputs in self.inputs.values()):
            self.live.record(hooks)
        for stream, inputs in self.inputs.items():
            for event in stream.events:
                if isinstance(event, ReadsHeads):
                    for readers in self.heads[event]:
                        put = hooks.replace if readers.alone is None else hooks.after
                        put(readers.module, partial(readers.circuit_output, inputs))
                elif isinstance(event, ReadsInput) and event.column in self.idle:
                    hooks.before(event.module, lambda x: x[:0])
                elif isinstance(event, ReadsInput) and self.state[event.column] != ALONE:
                    hooks.before(event.module, partial(self._entering, inputs, event))

    def _entering(self, inputs: ReaderInputs, event: ReadsInput, x: Tensor) -> Tensor:
        if self.state[event.column] == COMPUTED:
            return inputs.of_single(event).reshape(x.shape)
        reference_input = self.reference.inputs[event]
        if event.norm is not None:
            reference_input = through(event.norm.module, reference_input)
        return reference_input.reshape(x.shape)


def _instead(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(-1, *value.shape[2:]) if x.ndim == 2 else value  # OPT flattens positions
