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

from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph import AnyCircuit, Circuit, NodeCircuit
from circuits.intervention.ablation import AblatedRun, Constants
from circuits.intervention.differences import Differences
from circuits.intervention.node_run import NodeRun
from circuits.intervention.reader_inputs import ReaderInputs
from circuits.models import HookedModel, SourceActivations
from circuits.models.hooks import Hooks
from circuits.models.norm import Norm
from circuits.models.placement import through
from circuits.models.view import (
    Projection,
    ReadsHeads,
    ReadsInput,
    Stream,
)
from tasks.pairs import PairBatch

Logits = Float[Tensor, "read vocab"]
_CORRUPTED, _COMPUTED, _ALONE = 0, 1, 2  # what a reader is given


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
            run = NodeRun(self.model, self._reference, circuit)
            if run.needs_neurons and not self._reference.states.hidden:
                self._record_neurons()
            run.attach(hooks)
        else:
            EdgeRun(
                self.model, self._reference, circuit.mask, by_corruption=self._by_corruption
            ).attach(hooks)
        return self._run(hooks)

    def _record_neurons(self) -> None:
        """Neurons of the corrupted run, by one more of it, when the first circuit asks for them."""
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
        self.view, self.keep, self.reference = model.view, keep, reference
        self.live = SourceActivations(model.view)
        kept = keep.sum(dim=0)
        visible = model.layout.mask.sum(dim=0)
        self.state: list[int] = torch.where(
            kept == 0, _CORRUPTED, torch.where(kept == visible, _ALONE, _COMPUTED)
        ).tolist()
        self.idle = self._idle(by_corruption) if self.view.linear else set()
        computed = [column for column, state in enumerate(self.state) if state == _COMPUTED]
        used = keep[:, computed].any(dim=1)
        self.inputs = {
            stream: ReaderInputs(
                stream,
                Differences(stream, index, self.live, reference.states, used),
                reference,
                keep,
                frozenset(computed),
            )
            for index, stream in enumerate(self.view.streams)
        }

    def _idle(self, by_corruption: bool) -> set[int]:
        """MLPs (by column) that need not run: no reader wants what they write, or they write what
        they wrote in the reference, where that was a run.

        Where norms rescale the stream itself, every MLP has a part in their scales.
        """
        read = self.keep.any(dim=1).tolist()
        return {
            mlp.place.column
            for mlp in self.view.mlps
            if not read[mlp.place.row]
            or (by_corruption and self.state[mlp.place.column] == _CORRUPTED)
        }

    def attach(self, hooks: Hooks) -> None:
        """Record the live sources and replace the readers."""
        for index, mlp in enumerate(self.view.mlps):
            if mlp.place.column in self.idle:
                hooks.after(mlp.output, partial(_instead, self.reference.states.mlp[index]))
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
                        (hooks.after if _ALONE in states else hooks.replace)(module, edit)
                elif isinstance(event, ReadsInput) and event.column in self.idle:
                    hooks.before(event.module, lambda x: x[:0])
                elif isinstance(event, ReadsInput) and self.state[event.column] != _ALONE:
                    hooks.before(event.module, partial(self._entering, stream, event))

    def _entering(self, stream: Stream, event: ReadsInput, x: Tensor) -> Tensor:
        inputs = self.reference.inputs[event]
        if self.state[event.column] == _COMPUTED:
            ((_, (inputs,)),) = self.inputs[stream].of(event, [event.column])
        if event.norm is not None:
            inputs = through(event.norm.module, inputs)
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
            wanted = [columns.start + head for head in computed]
            weight, bias = projection.weight, projection.bias
            for part, inputs in self.inputs[stream].of(event, wanted):
                heads = computed[part]
                normed = inputs if event.norm is None else _normed(event.norm, inputs)
                value = normed.flatten(1, 2) @ weight[heads]
                if bias is not None:
                    value += bias[heads].unsqueeze(1)
                mine[:, :, heads] = value.view(*normed.shape[:3], -1).permute(1, 2, 0, 3)
        return new


def _normed(
    norm: Norm, x: Float[Tensor, "reader batch pos d_model"]
) -> Float[Tensor, "reader batch pos d_model"]:
    return through(norm.module, x)


def _instead(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(-1, *value.shape[2:]) if x.ndim == 2 else value  # OPT flattens positions
