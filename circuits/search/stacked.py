"""Several circuits at once on one batch, from the first layer where any of them differs.

`CircuitRunner` runs one circuit from the embedding on. A search asks for thousands that differ in a
few edges, so here

- copies of the batch stand one after another along the batch axis, one circuit each;
- layers before the first reader that lacks an edge in any copy are not run: all that they compute
  is as in the clean run;
- positions before the first difference of clean and corrupted prompts are run once, unless sources
  are ablated by constants;
- an attention or MLP whose output no copy reads is not run, and readers of nodes that nothing
  reads are left as they are;
- a reader's input is built from whichever are fewer, the edges it keeps or those it lacks:
  x'_v + sum over kept (a_u - a'_u), or x_v - sum over lacking (a_u - a'_u); the logits' reader's at
  the answer positions alone.

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
from circuits.models.inputs import Prefix
from circuits.models.norm import Norm
from circuits.models.placement import through
from circuits.models.view import Layer, Projection, ReadsHeads
from circuits.search.replay import CachedModules, repeated
from circuits.search.source_differences import Answers, CleanSums, SourceDifferences
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
        self._rest, self._prefix = model.share_prefix(batch) if constants is None else (batch, None)
        self.live, hooks = SourceActivations(self.view), Hooks()
        self.live.record(hooks)
        layers = self.view.layers
        parts = [_parts(layer) for layer in layers]
        self.replay = CachedModules(
            [layer.block for layer in layers]
            + [module for pair in parts for module in chain(*pair)]
        )
        with torch.no_grad(), self.replay.recording():
            self.clean = model.logits(self._rest.clean, self._rest, hooks, self._prefix)
        # Per layer, what to leave out when no head, or not the MLP, is read.
        self.attentions, self.mlps = (
            [self.replay.widest(modules) for modules in column]
            for column in zip(*parts, strict=True)
        )
        self._copied: tuple[int, PairBatch, Prefix | None] = (1, self._rest, self._prefix)
        if constants is None:
            reference, corrupted = AblatedRun.corrupted(model, self._rest, self._prefix)
        else:
            reference = AblatedRun.constant(constants(model, batch))
        self.reference, shape = reference.states, self.live.inputs[0].shape
        self.replaced = {
            event.at if isinstance(event, ReadsHeads) else event.module: stream.view(shape)
            for event, stream in reference.inputs.items()
        }
        self.answers = self._rest.example_index, self._rest.position
        rows = range(model.layout.shape[0])
        self.sums, self.sums_at_answers = (
            CleanSums(SourceDifferences(self.live, self.reference, rows, at=at, most=_HELD), _HELD)
            for at in (None, self.answers)
        )
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
            batch, prefix = self._repeated(copies)
            logits: Tensor = self.model.logits(batch.clean, batch, hooks, prefix)
            return logits.view(copies, -1, logits.shape[1])

    def _repeated(self, copies: int) -> tuple[PairBatch, Prefix | None]:
        """The batch so many times, and its prefix; the last one is kept, for searches ask again."""
        if self._copied[0] != copies:
            prefix = self._prefix and self._prefix.repeat(copies)
            self._copied = (copies, self._rest.repeat(copies), prefix)
        return self._copied[1:]


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
        # Readers that take what the model computes.
        self.untouched = [one and not other for one, other in zip(alive, touched, strict=True)]
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
        self.streams: dict[nn.Module, Stream] = {}
        # Each touched reader takes the shorter sum, which is also the exacter: an input that is
        # nothing but what replaces it comes out as that, not as a difference of large numbers.
        columns = [column for column, touched in enumerate(self.touched) if touched]
        self.place = {column: place for place, column in enumerate(columns)}
        keeps, lacks = (part[:, :, columns].permute(2, 0, 1) for part in (keep, self.lacks))
        self.adds = keeps.sum(dim=2) < lacks.sum(dim=2)  # reader, copy
        self.weights = torch.where(
            self.adds[..., None], keeps.to(torch.int8), -lacks.to(torch.int8)
        )
        self.sums = self._live_sums(
            [column for column in columns if column != layout.logits_column], None
        )
        self.sums_at_answers = self._live_sums(
            [column for column in columns if column == layout.logits_column], base.answers
        )

    def _live_sums(self, columns: list[int], at: Answers | None) -> SourceDifferences:
        """Sums of what some readers read of this run's own sources."""
        read = self.weights[[self.place[column] for column in columns]].flatten(0, 1).any(dim=0)
        rows = [row for row in read.nonzero().flatten().tolist() if row >= self.first_live]
        base = self.base
        return SourceDifferences(self.live, base.reference, rows, copies=self.copies, at=at)

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
                    in_vain = not any(any(self.untouched[columns]) for _, columns in parts)
                    put = hooks.replace if in_vain else hooks.after
                    put(module, partial(self._projected, norm, between, parts))
            self._replace_input(hooks, layer.mlp.reader, layout.mlp_column(index))
        if self.touched[layout.logits_column]:
            hooks.before(self.view.final, self._at_answers)

    def _replace_input(self, hooks: Hooks, norm: nn.Module, column: int) -> None:
        if not self.touched[column]:
            return

        def edit(x: Tensor) -> Tensor:
            stream = x.view(self.copies, -1, x.shape[-1])  # OPT flattens positions
            return self._inputs((column,), norm, stream)[0].reshape(x.shape)

        hooks.before(norm, edit)

    def _at_answers(self, x: Float[Tensor, "batch pos d_model"]) -> Tensor:
        """What the logits' reader is given where answers are read; nobody looks elsewhere."""
        new: Tensor = x.unflatten(0, (self.copies, -1)).clone()
        example, position = self.base.answers
        stream = new[:, example, position]
        column = self.view.layout.logits_column
        new[:, example, position] = self._inputs((column,), self.view.final, stream)[0]
        return new.flatten(0, 1)

    def _projected(
        self,
        at: nn.Module,
        norm: Norm | None,
        parts: list[tuple[Projection, slice]],
        output: Float[Tensor, "computed pos feature"],
    ) -> Float[Tensor, "batch pos feature"]:
        """A projection's output with each touched head's reader given its own input.

        Where it was not computed, heads that nothing reads are given zeros.
        """
        shape = *self.streams[at].shape[:2], output.shape[-1]
        new = output.clone() if len(output) else output.new_zeros(shape)
        for projection, columns in parts:
            heads = [head for head, touched in enumerate(self.touched[columns]) if touched]
            if not heads:
                continue
            readers = tuple(columns.start + head for head in heads)
            stream = self.streams[at].view(self.copies, -1, self.streams[at].shape[-1])
            inputs = self._inputs(readers, at, stream)
            # Not through the norm's hooks, which see the stream.
            normed: Tensor = inputs if norm is None else through(norm.module, inputs)
            value = torch.einsum("hctd,hdk->cthk", normed, projection.weight[heads])
            value = value.reshape(*shape[:2], *value.shape[2:])
            if projection.bias is not None:
                value = value + projection.bias[heads]
            projection.heads(new)[:, :, heads] = value
        return new

    def _inputs(
        self, columns: tuple[int, ...], norm: nn.Module, stream: Float[Tensor, "copy token d_model"]
    ) -> Float[Tensor, "reader copy token d_model"]:
        """What the readers at these columns, of one place in the stream, are given."""
        base, replaced = self.base, self.base.replaced[norm]
        clean, live = base.sums, self.sums
        if norm is self.view.final:
            replaced = replaced[base.answers]
            clean, live = base.sums_at_answers, self.sums_at_answers
        places = [self.place[column] for column in columns]
        weights = self.weights[places]
        adds = self.adds[places].to(stream.device)
        inputs: Tensor = torch.where(
            adds[..., None, None], replaced.reshape(stream.shape[1:]), stream
        )
        for found in (
            clean.sums(columns, weights[:, :, : self.first_live]),
            live.sums(weights[:, :, live.rows], self.view.layout.visible(columns[0]).stop),
        ):
            if found is not None:
                inputs += found
        return inputs
