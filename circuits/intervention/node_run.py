"""Run a model on a circuit of nodes or neurons: what it leaves out is replaced where it writes.

An MLP or the embedding that is left out writes what it wrote in the reference. A head is taken by
its z: kept dimensions are this run's, the others the reference's, and the model's own output matrix
widens the mix (where a norm follows it, each share over the sigma of its own run, as in
`models/stream.py`). An MLP of which some neurons are kept reads the others from the reference; one
of which none is, writes the reference's output, its bias and a norm behind it included.

A gate between 0 and 1 in the place of a choice mixes the two, and stays in the run's graph.

So every reader sees x' + sum over kept sources of (a - a'), which is the edge circuit with all
edges out of the nodes kept. Where norms rescale the stream itself (BART) it is not: here the run's
own norms rescale what was replaced too. One forward pass; one more a batch when the first circuit
keeps part of an MLP, for the corrupted run's neurons.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph import Units
from circuits.intervention.ablation import AblatedRun
from circuits.models import HookedModel, SourceActivations
from circuits.models.hooks import Hooks
from circuits.models.view import Attention


class NodeRun:
    """One forward pass on a circuit of nodes or neurons.

    needs_neurons: whether the reference must hold the hidden neurons of MLPs.
    """

    def __init__(
        self,
        model: HookedModel,
        reference: AblatedRun,
        units: Units,
        gates: Shaped[Tensor, " unit"],
    ) -> None:
        """gates: which units are kept, or a gate for each: those of what enters the model are 1."""
        self.view, self.reference = model.view, reference
        widths = units.widths
        if units.level == "neuron" and widths != self.view.widths:
            row = next(row for row, n in enumerate(self.view.widths) if n != widths[row])
            raise CircuitsError(
                f"a circuit with {widths[row]} units of {units.layout.sources[row]} cannot run "
                f"on a model with {self.view.widths[row]}"
            )
        has_gates = gates.dtype != torch.bool
        self.live = SourceActivations(self.view, attached=has_gates)
        self.units, self.gates = units, gates.to(model.device)
        self.share = ["part"] * len(widths)
        if has_gates:
            for row in units.layout.roots:
                self.share[row] = "all"
        else:
            starts = np.cumsum((0, *widths[:-1]))
            numbers = np.add.reduceat(gates.numpy(), starts, dtype=int)
            shares = zip(numbers.tolist(), widths, strict=True)
            self.share = ["none" if not n else "all" if n == of else "part" for n, of in shares]
        self.needs_neurons = any(
            self.share[mlp.place.row] == "part" and widths[mlp.place.row] > 1
            for mlp in self.view.mlps
        )

    def attach(self, hooks: Hooks) -> None:
        """Replace what is left out."""
        reference = self.reference.states
        if any(attention.post is not None for attention in self.view.attentions):
            self.live.record(hooks)
        for stream_index, stream in enumerate(self.view.streams):
            if self.share[stream.rows.start] == "none":
                hooks.before(stream.entry, partial(_instead, reference.inputs[stream_index]))
        for index, attention in enumerate(self.view.attentions):
            rows = attention.place.rows
            if {*self.share[rows]} == {"all"}:
                continue
            first, last = self.units.of(rows.start), self.units.of(rows.stop - 1)
            gates = self.gates[first.start : last.stop].view(attention.n_heads, -1)
            if attention.post is None:
                hooks.before(attention.output, partial(_mixed, gates, reference.z[index]))
            else:
                written = partial(self._written, attention, index, gates)
                hooks.after(attention.post.module, written)
        for index, mlp in enumerate(self.view.mlps):
            row = mlp.place.row
            gates = self.gates[self.units.of(row)]
            if self.share[row] == "part" and len(gates) == 1:
                hooks.after(mlp.output, partial(_mixed, gates, reference.mlp[index]))
            elif self.share[row] == "part":
                hooks.before(mlp.hidden, partial(_mixed, gates, reference.hidden[index]))
            elif self.share[row] == "none":
                hooks.after(mlp.output, partial(_instead, reference.mlp[index]))

    def _written(
        self,
        attention: Attention,
        index: int,
        gates: Shaped[Tensor, "head _"],
        written: Float[Tensor, "batch pos d_model"],
    ) -> Float[Tensor, "batch pos d_model"]:
        """What the heads write behind a norm, by z over the sigma of each run."""
        live = self.live.z[index]
        z = _mixed(gates, self.reference.states.z[index], live)
        return (z.flatten(2) @ attention.output_weight.flatten(0, 1)).to(written.dtype)


def _instead(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(x.shape)


def _mixed(gates: Shaped[Tensor, "*unit"], reference: Tensor, x: Tensor) -> Tensor:
    """`x` where a unit is kept, else the reference; by a gate, so much of the one and the other."""
    values = x.reshape(reference.shape)
    if gates.dtype == torch.bool:
        return torch.where(gates, values, reference).reshape(x.shape)
    return torch.lerp(reference, values, gates.to(values.dtype)).reshape(x.shape)
