"""Several circuits at once on one batch, from the first layer where any of them differs.

`CircuitRunner` runs one circuit from the embedding on. A search asks for thousands that differ in a
few edges, so here

- copies of the batch stand one after another along the batch axis, one circuit each;
- layers before the first reader that lacks an edge in any copy are not run: all that they compute
  is as in the clean run;
- an attention or MLP whose output no copy reads is not run, and readers of nodes that nothing
  reads are left as they are;
- a reader's input is built from whichever are fewer, the edges it keeps or those it lacks:
  x'_v + sum over kept (a_u - a'_u), or x_v - sum over lacking (a_u - a'_u).

The logits are those of `CircuitRunner`, up to rounding.
"""

from __future__ import annotations

from functools import partial
from itertools import chain

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from circuits.graph import Circuit
from circuits.intervention.ablation import AblatedRun, Constants
from circuits.intervention.executor import CircuitRunner, Logits
from circuits.models import HookedModel, SourceActivations
from circuits.models.hooks import Hooks
from circuits.models.norm import Norm
from circuits.models.placement import through
from circuits.models.view import Layer, Projection, ReadsHeads
from circuits.search.replay import CachedModules, repeated
from tasks.pairs import PairBatch

_HELD = 2**28  # numbers kept widened for each batch: 1 GB in float32

Stream = Float[Tensor, "batch pos d_model"]


class BatchedCircuitRunner:
    """Runs circuits side by side on one batch; they share its clean and replaced runs.

    clean, corrupted: float32 logits at the batch's answer positions, as `CircuitRunner` has them.
    layers_run: layers run so far, times copies; the two reference runs are not counted.
    depth: layers of one whole run, an encoder's among them.
    """

    def __init__(
        self, model: HookedModel, batch: PairBatch, constants: Constants | None = None
    ) -> None:
        """Run the batch clean and corrupted once.

        constants: what stands in for the sources left out; None takes the corrupted run.
        """
        self.model, self.batch, self.view = model, batch, model.view
        self.layers_run = 0
        self.depth = model.layout.n_layers + model.layout.n_encoder_layers
        self.clean: Logits
        self.corrupted: Logits
        if not self.view.sequential:  # every circuit by itself, from the embedding on
            self._runner = CircuitRunner(model, batch, constants)
            self.clean, self.corrupted = self._runner.clean, self._runner.corrupted
            return
        self.live, hooks = SourceActivations(self.view), Hooks()
        self.live.record(hooks)
        layers = self.view.layers
        parts = [_parts(layer) for layer in layers]
        self.replay = CachedModules(
            [layer.block for layer in layers]
            + [module for pair in parts for module in chain(*pair)]
        )
        with torch.no_grad(), self.replay.recording():
            self.clean = model.logits(batch.clean, batch, hooks)
        # Per layer, what to leave out when no head, or not the MLP, is read.
        self.attentions, self.mlps = (
            [self.replay.widest(modules) for modules in column]
            for column in zip(*parts, strict=True)
        )
        self._deltas: dict[int, Stream] = {}
        self._held = 0
        if constants is None:
            reference, corrupted = AblatedRun.corrupted(model, batch, None)
        else:
            reference = AblatedRun.constant(constants(model, batch))
        self.reference, shape = reference.states, self.live.inputs[0].shape
        self.replaced = {
            event.at if isinstance(event, ReadsHeads) else event.module: stream.view(shape)
            for event, stream in reference.inputs.items()
        }
        if constants is not None:
            corrupted = self.logits(torch.zeros(1, *model.layout.shape, dtype=torch.bool))[0]
            self.layers_run = 0
        self.corrupted = corrupted

    def logits(self, keep: Bool[Tensor, "copy source reader"]) -> Float[Tensor, "copy read vocab"]:
        """Answer logits of each copy's circuit; no entry of `keep` but edges."""
        copies = keep.shape[0]
        if not self.view.sequential:
            self.layers_run += copies * self.depth
            circuits = [Circuit(self.model.layout, mask) for mask in keep]
            return torch.stack([self._runner.logits(circuit) for circuit in circuits])
        run = _Run(self, keep)
        self.layers_run += copies * (len(self.view.layers) - run.start)
        hooks = Hooks()
        run.attach(hooks)
        skipped = [layer.block for layer in self.view.layers[: run.start]] + run.idle
        with torch.no_grad(), self.replay.skipping(skipped, copies):
            batch = self.batch.repeat(copies)
            logits: Tensor = self.model.logits(batch.clean, batch, hooks)
            return logits.view(copies, -1, logits.shape[1])

    def clean_delta(self, row: int) -> Stream:
        """What corrupting a source changes in its output, when all before it is clean."""
        if row in self._deltas:
            return self._deltas[row]
        delta = self.live.output(row) - self.reference.output(row)
        if self._held + delta.numel() <= _HELD:
            self._deltas[row] = delta
            self._held += delta.numel()
        return delta


def _parts(layer: Layer) -> tuple[list[nn.Module], list[nn.Module]]:
    """Modules that end with what the heads write, and with what the MLP does, widest first.

    An attention before a norm of its own is not left out: that norm would be fed nothing new, and
    the heads' shares are divided by its scale as they pass.
    """
    heads, mlp = layer.attention, layer.mlp
    around = [
        module
        for module in layer.block.modules()
        if module not in (layer.block, mlp.hidden) and mlp.hidden in set(module.modules())
    ]
    return ([] if heads.post else [heads.module, heads.output]), [*around, mlp.output]


class _Run:
    """One forward pass of several copies."""

    def __init__(
        self, base: BatchedCircuitRunner, keep: Bool[Tensor, "copy source reader"]
    ) -> None:
        self.base, self.view, self.keep = base, base.view, keep
        self.copies = keep.shape[0]
        layout = self.view.layout
        self.lacks = layout.mask & ~keep
        read = keep.any(dim=2).any(dim=0)  # sources that some copy reads
        touched = self.lacks.any(dim=1).any(dim=0).tolist()
        alive = [not rows or bool(read[list(rows)].any()) for rows in layout.feeds]
        self.touched = [one and other for one, other in zip(touched, alive, strict=True)]
        per_layer = [
            any(self.touched[layout.attention_columns(index)])
            or self.touched[layout.mlp_column(index)]
            for index in range(len(self.view.layers))
        ]
        self.start = per_layer.index(True) if any(per_layer) else len(per_layer)
        self.first_live = (
            layout.head_rows(self.start).start if self.start < len(per_layer) else layout.shape[0]
        )
        above = range(self.start, len(per_layer))
        self.idle: list[nn.Module] = []
        # What is left out is as in the clean run.
        self.live = SourceActivations(self.view)
        self.live.z = {index: base.live.z[index] for index in range(self.start)}
        self.live.mlp = {index: base.live.mlp[index] for index in range(self.start)}
        for index in above:
            attention, mlp = base.attentions[index], base.mlps[index]
            if mlp is not None and not read[layout.mlp_row(index)]:
                self.idle.append(mlp)
                self.live.mlp[index] = repeated(base.live.mlp[index], self.copies)
            if attention is not None and not read[layout.head_rows(index)].any():
                self.idle.append(attention)
                self.live.z[index] = repeated(base.live.z[index], self.copies)
        self.deltas: dict[int, Tensor] = {}
        self.streams: dict[nn.Module, Stream] = {}

    def attach(self, hooks: Hooks) -> None:
        """Record the live sources and give the readers that lack an edge their own inputs."""
        self.live.record(hooks)
        layout = self.view.layout
        for index, layer in enumerate(self.view.layers[self.start :], start=self.start):
            norm, between = layer.reads.at, layer.reads.norm
            if any(self.touched[layout.attention_columns(index)]):
                hooks.before(norm, partial(self.streams.__setitem__, norm))
            for module, parts in layer.reads.modules.items():
                if any(any(self.touched[columns]) for _, columns in parts):
                    hooks.after(module, partial(self._projected, norm, between, parts))
            self._replace_input(hooks, layer.mlp.reader, layout.mlp_column(index))
        self._replace_input(hooks, self.view.final, layout.logits_column)

    def _replace_input(self, hooks: Hooks, norm: nn.Module, column: int) -> None:
        if not self.touched[column]:
            return

        def edit(x: Tensor) -> Tensor:
            stream = x.view(-1, *self.base.live.inputs[0].shape[1:])  # OPT flattens it
            return self._inputs([column], norm, stream)[0].reshape(x.shape)

        hooks.before(norm, edit)

    def _projected(
        self,
        at: nn.Module,
        norm: Norm | None,
        parts: list[tuple[Projection, slice]],
        output: Float[Tensor, "batch pos feature"],
    ) -> Float[Tensor, "batch pos feature"]:
        """A projection's output with each touched head's reader given its own input."""
        new = output.clone()
        for projection, columns in parts:
            heads = [head for head, touched in enumerate(self.touched[columns]) if touched]
            if not heads:
                continue
            inputs = self._inputs([columns.start + head for head in heads], at, self.streams[at])
            # Not through the norm's hooks, which see the stream.
            normed = inputs if norm is None else through(norm.module, inputs)
            value = torch.einsum("hbpd,hdk->bphk", normed, projection.weight[heads])
            if projection.bias is not None:
                value = value + projection.bias[heads]
            projection.heads(new)[:, :, heads] = value
        return new

    def _inputs(
        self, columns: list[int], norm: nn.Module, stream: Stream
    ) -> Float[Tensor, "reader batch pos d_model"]:
        """What the readers at these columns are given.

        Each from the shorter sum, which is also the exacter: an input that is nothing but what
        replaces it comes out as that, and not as a difference of large numbers.
        """
        keeps, lacks = (part[:, :, columns].permute(2, 0, 1) for part in (self.keep, self.lacks))
        adds = keeps.sum(dim=2) < lacks.sum(dim=2)  # reader, copy
        weights = torch.where(adds[..., None], keeps.int(), -lacks.int())
        live = stream.unflatten(0, (self.copies, -1))
        inputs = torch.where(
            adds.to(stream.device)[..., None, None, None], self.base.replaced[norm], live
        )
        rows = weights.flatten(0, 1).any(dim=0).nonzero().flatten().tolist()
        for part, sources, spec in (
            ([row for row in rows if row < self.first_live], self._clean, "ckr,rnpd->cknpd"),
            ([row for row in rows if row >= self.first_live], self._live, "ckr,rknpd->cknpd"),
        ):
            if part:
                weight = weights[:, :, part].to(stream)
                deltas = torch.stack([sources(row) for row in part])
                inputs = inputs + torch.einsum(spec, weight, deltas)
        return inputs.flatten(1, 2)

    def _clean(self, row: int) -> Stream:
        return self.base.clean_delta(row)

    def _live(self, row: int) -> Float[Tensor, "copy batch pos d_model"]:
        if row not in self.deltas:
            output = self.live.output(row).unflatten(0, (self.copies, -1))
            self.deltas[row] = output - self.base.reference.output(row)
        return self.deltas[row]
