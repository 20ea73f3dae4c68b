"""Several circuits at once on one batch, from the first layer where any of them differs.

`CircuitRunner` runs one circuit from the embedding on. A search asks for thousands that differ in a
few edges, so here

- copies of the batch stand one after another along the batch axis, one circuit each;
- what they share with the clean run, or with the run of a circuit that was settled, is not run
  again: only readers that lack other edges, and what is computed from them along edges that are
  kept, can differ;
- positions before the first difference of clean and corrupted prompts are run once, unless sources
  are ablated by constants;
- an attention or MLP whose output no copy reads is not run, and readers of nodes that nothing
  reads are left as they are (of an attention before a norm of its own: where none of its heads is);
- a reader's input is built from whichever are fewer, the edges it keeps or those it lacks:
  x'_v + sum over kept (a_u - a'_u), or x_v - sum over lacking (a_u - a'_u); the logits' reader's at
  the answer positions alone.

The logits are those of `CircuitRunner`, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from circuits.graph import Circuit
from circuits.intervention.ablation import AblatedRun, Constants
from circuits.intervention.cached_modules import CachedModules
from circuits.intervention.executor import CircuitRunner, Logits
from circuits.intervention.recorded_runs import RecordedRuns, parts_of, replayable
from circuits.intervention.settled_run import SettledRun
from circuits.intervention.source_differences import Answers, SettledSums, SourceDifferences
from circuits.models import HookedModel, SourceActivations
from circuits.models.hooks import Hooks
from circuits.models.inputs import Prefix
from circuits.models.norm import Norm
from circuits.models.placement import through
from circuits.models.view import Projection, ReadsHeads, View
from circuits.runtime.limits import HELD_DIFFERENCES, side_by_side
from tasks.pairs import PairBatch

Stream = Float[Tensor, "batch pos d_model"]


class BatchedCircuitRunner:
    """Runs circuits side by side on one batch; they share its clean and replaced runs.

    clean, corrupted: float32 logits at the batch's answer positions, as `CircuitRunner` has them.
    layers_run: layers run so far, times copies; the two reference runs are not counted.
    depth: layers of one whole run, an encoder's among them.
    """

    def __init__(
        self,
        model: HookedModel,
        batch: PairBatch,
        constants: Constants | None = None,
        *,
        alike: bool = True,
        held: int | None = None,
        runs: RecordedRuns | None = None,
    ) -> None:
        """Run the batch clean and corrupted once.

        constants: what stands in for the sources left out; None takes the corrupted run.
        alike: whether circuits lack the same edges at most readers as those before them, as those
            of a search do: then what is read along the others is kept.
        held: numbers that may be kept of what each source changed; None takes the usual limit.
        runs: of this batch, where they have been made; not beside constants.
        """
        assert runs is None or constants is None, "recorded runs are of corrupted sources"
        self.model, self.batch, self.view = model, batch, model.view
        self._held = HELD_DIFFERENCES if held is None else held
        self._kept_sums = self._held // 2 if alike else 0
        self.layers_run = 0
        self.depth = model.layout.n_layers + model.layout.n_encoder_layers
        self.clean: Logits
        self.corrupted: Logits
        if not self.view.sequential:  # every circuit by itself, from the embedding on
            self._runner = CircuitRunner(model, batch, constants)
            self.clean, self.corrupted = self._runner.clean, self._runner.corrupted
            return
        if runs is not None:
            self._rest, self._prefix = runs.batch, runs.prefix
            live, replay, self.clean = runs.clean.run.states, runs.clean.replay, runs.clean.logits
            reference, corrupted = runs.corrupted.run, runs.corrupted.logits
        else:  # keeps of the clean run what sources give alone, a part of a `RecordedRun`
            shares = constants is None
            self._rest, self._prefix = model.share_prefix(batch) if shares else (batch, None)
            live, replay, hooks = SourceActivations(self.view), replayable(self.view), Hooks()
            live.record(hooks)
            with torch.no_grad(), replay.recording():
                self.clean = model.logits(self._rest.clean, self._rest, hooks, self._prefix)
            if constants is None:
                reference, corrupted = AblatedRun.corrupted(model, self._rest, self._prefix)
            else:
                reference = AblatedRun.constant(constants(model, batch))
        # Per layer, what to leave out when no head, or not the MLP, is read.
        parts = zip(*map(parts_of, self.view.layers), strict=True)
        self.attentions, self.mlps = (
            [replay.widest(modules) for modules in column] for column in parts
        )
        self.feeds = _feeds(self.view)
        self._copied: tuple[int, PairBatch, Prefix | None] = (1, self._rest, self._prefix)
        self.reference, shape = reference.states, live.inputs[0].shape
        self.replaced = {
            event.at if isinstance(event, ReadsHeads) else event.module: stream.view(shape)
            for event, stream in reference.inputs.items()
        }
        self.answers = self._rest.example_index, self._rest.position
        self.full = self.settled = self._settled(model.layout.mask, live, replay)
        if constants is not None:
            corrupted = self.logits(torch.zeros(1, *model.layout.shape, dtype=torch.bool))[0]
            self.layers_run = 0
        self.corrupted = corrupted

    @property
    def width(self) -> int:
        """How many circuits are worth running side by side."""
        return side_by_side(self.batch.clean.numel())

    def tensors(self) -> Iterator[Tensor]:
        """All that its runs keep, apart from copies of the batch."""
        yield from (self.clean, self.corrupted)
        if not self.view.sequential:
            yield from self._runner.tensors()
            return
        yield from self.reference.tensors()
        yield from self.replaced.values()
        yield from self.full.tensors()
        yield from self.settled.tensors()
        if self._prefix is not None:
            yield from self._prefix.tensors()

    def logits(self, keep: Bool[Tensor, "copy source reader"]) -> Float[Tensor, "copy read vocab"]:
        """Answer logits of each copy's circuit; no entry of `keep` but edges."""
        copies = keep.shape[0]
        if not self.view.sequential:
            self.layers_run += copies * self.depth
            circuits = [Circuit(self.model.layout, mask) for mask in keep]
            return torch.stack([self._runner.logits(circuit) for circuit in circuits])
        run = _Run(self, self.settled, keep)
        logits = self._logits(run)
        return logits.view(copies, -1, logits.shape[1])

    def settle(self, mask: Bool[Tensor, "source reader"]) -> None:
        """Run a circuit that those to come differ little from; they then start from its run.

        It is itself run from the whole model's, which the whole mask goes back to, so that results
        do not depend on what was settled before.
        """
        if not self.view.sequential:
            return
        self.settled = self.full
        if torch.equal(mask, self.full.mask):
            return
        run, replay = _Run(self, self.full, mask[None]), self.full.replay.copy()
        with replay.recording():
            self._logits(run)
        self.settled = self._settled(mask.clone(), run.live, replay)

    def _logits(self, run: _Run) -> Float[Tensor, "read vocab"]:
        hooks = Hooks()
        run.attach(hooks)
        self.layers_run += run.copies * (len(self.view.layers) - run.start)
        skipped = [layer.block for layer in self.view.layers[: run.start]] + run.idle
        with torch.no_grad(), run.base.replay.skipping(skipped, run.copies):
            batch, prefix = self._repeated(run.copies)
            return self.model.logits(batch.clean, batch, hooks, prefix)

    def _settled(
        self, mask: Bool[Tensor, "source reader"], live: SourceActivations, replay: CachedModules
    ) -> SettledRun:
        rows = range(self.model.layout.shape[0])
        sums = [
            SettledSums(
                SourceDifferences(live, self.reference, rows, at=answers, most=self._held),
                self._kept_sums,
            )
            for answers in (None, self.answers)
        ]
        return SettledRun(mask, live, replay, *sums)

    def _repeated(self, copies: int) -> tuple[PairBatch, Prefix | None]:
        """The batch so many times, and its prefix; the last one is kept, for searches ask again."""
        if self._copied[0] != copies:
            prefix = self._prefix and self._prefix.repeat(copies)
            self._copied = (copies, self._rest.repeat(copies), prefix)
        return self._copied[1:]


def _feeds(view: View) -> list[Sequence[int]]:
    """Rows of the sources that each reader changes, as `Layout.feeds` has them.

    Where a norm stands behind attention, a head's reader changes its layer's other heads as well:
    what each lets through is divided by the scale of all of them together.
    """
    feeds: list[Sequence[int]] = list(view.layout.feeds)
    for index, layer in enumerate(view.layers):
        if layer.attention.post is not None:
            rows, columns = view.layout.head_rows(index), view.layout.attention_columns(index)
            heads = range(rows.start, rows.stop)
            feeds[columns] = [heads] * (columns.stop - columns.start)
    return feeds


class _Run:
    """One forward pass of several copies, from a settled run on."""

    def __init__(
        self,
        runner: BatchedCircuitRunner,
        base: SettledRun,
        keep: Bool[Tensor, "copy source reader"],
    ) -> None:
        self.runner, self.base, self.view = runner, base, runner.view
        self.copies = keep.shape[0]
        layout, n_layers = self.view.layout, len(self.view.layers)
        lacks = layout.mask & ~keep
        read = keep.any(dim=2).any(dim=0)  # sources that some copy reads
        alive = [not rows or bool(read[list(rows)].any()) for rows in runner.feeds]
        differs = self._differing(keep, alive)
        attentions = [any(differs[layout.attention_columns(index)]) for index in range(n_layers)]
        mlps = [differs[layout.mlp_column(index)] for index in range(n_layers)]
        parts = [a or m for a, m in zip(attentions, mlps, strict=True)]
        self.start = parts.index(True) if any(parts) else n_layers
        # What is left out is as in the settled run, for which one copy says it.
        self.idle: list[nn.Module] = []
        self.live = SourceActivations(self.view)
        # Sources that write again, be it what they wrote, and readers that do.
        self.fresh = torch.zeros(layout.shape[0], dtype=torch.bool)
        runs = [False] * layout.shape[1]
        runs[layout.logits_column] = True
        for index in range(n_layers):
            attention, mlp = runner.attentions[index], runner.mlps[index]
            above = index >= self.start
            if above and (attention is None or attentions[index]):
                span = layout.attention_columns(index)
                runs[span] = [True] * (span.stop - span.start)
                self.fresh[layout.head_rows(index)] = True
            else:
                self.idle += [attention] if above and attention is not None else []
                self.live.z[index] = base.live.z[index]
            if above and (mlp is None or mlps[index]):
                runs[layout.mlp_column(index)] = True
                self.fresh[layout.mlp_row(index)] = True
            else:
                self.idle += [mlp] if above and mlp is not None else []
                self.live.mlp[index] = base.live.mlp[index]
        touched = lacks.any(dim=1).any(dim=0).tolist()
        served = [is_alive and reruns for is_alive, reruns in zip(alive, runs, strict=True)]
        self.touched = [
            is_touched and is_served for is_touched, is_served in zip(touched, served, strict=True)
        ]
        # Readers that take what the model computes.
        self.untouched = [
            is_served and not is_touched
            for is_served, is_touched in zip(served, touched, strict=True)
        ]
        self.streams: dict[nn.Module, Stream] = {}
        # Each touched reader takes the shorter sum, which is also the exacter: an input that is
        # nothing but what replaces it comes out as that, not as a difference of large numbers.
        columns = [column for column, touched in enumerate(self.touched) if touched]
        self.row_of = {column: row for row, column in enumerate(columns)}
        keeps, lacks = (part[:, :, columns].permute(2, 0, 1) for part in (keep, lacks))
        self.adds = keeps.sum(dim=2) < lacks.sum(dim=2)  # reader, copy
        self.weights = torch.where(
            self.adds[..., None], keeps.to(torch.int8), -lacks.to(torch.int8)
        )
        last = layout.logits_column
        self.sums = self._live_sums([column for column in columns if column != last], None)
        self.sums_at_answers = self._live_sums(
            [column for column in columns if column == last], runner.answers
        )

    def _differing(self, keep: Bool[Tensor, "copy source reader"], alive: list[bool]) -> list[bool]:
        """Readers that may be given something else than in the settled run."""
        changed = (keep != self.base.mask).any(dim=1).any(dim=0).tolist()
        kept = keep.any(dim=0).T.numpy()
        sources = np.zeros(kept.shape[1], dtype=bool)
        readers = [False] * len(changed)
        for column, rows in enumerate(self.runner.feeds):  # in the order of computation
            if alive[column] and (changed[column] or (kept[column] & sources).any()):
                readers[column] = True
                sources[list(rows)] = True
        return readers

    def _live_sums(self, columns: list[int], answers: Answers | None) -> SourceDifferences:
        """Sums of what some readers read of this run's own sources."""
        read = self.weights[[self.row_of[column] for column in columns]].flatten(0, 1).any(dim=0)
        rows = (read & self.fresh).nonzero().flatten().tolist()
        reference = self.runner.reference
        return SourceDifferences(self.live, reference, rows, copies=self.copies, at=answers)

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
        example, position = self.runner.answers
        stream = new[:, example, position]
        column = self.view.layout.logits_column
        new[:, example, position] = self._inputs((column,), self.view.final, stream)[0]
        return new.flatten(0, 1)

    def _projected(
        self,
        stream_entry: nn.Module,
        norm: Norm | None,
        parts: list[tuple[Projection, slice]],
        output: Float[Tensor, "computed pos feature"],
    ) -> Float[Tensor, "batch pos feature"]:
        """A projection's output with each touched head's reader given its own input.

        Where it was not computed, heads that nothing reads are given zeros.
        """
        shape = *self.streams[stream_entry].shape[:2], output.shape[-1]
        new = output.clone() if len(output) else output.new_zeros(shape)
        for projection, columns in parts:
            heads = [head for head, touched in enumerate(self.touched[columns]) if touched]
            if not heads:
                continue
            readers = tuple(columns.start + head for head in heads)
            stream = self.streams[stream_entry].view(
                self.copies, -1, self.streams[stream_entry].shape[-1]
            )
            inputs = self._inputs(readers, stream_entry, stream)
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
        replaced, settled, live = self.runner.replaced[norm], self.base.sums, self.sums
        if norm is self.view.final:
            replaced = replaced[self.runner.answers]
            settled, live = self.base.sums_at_answers, self.sums_at_answers
        rows = [self.row_of[column] for column in columns]
        weights = self.weights[rows]
        adds = self.adds[rows].to(stream.device)
        inputs: Tensor = torch.where(
            adds[..., None, None], replaced.reshape(stream.shape[1:]), stream
        )
        stop = self.view.layout.visible(columns[0]).stop
        fixed = weights * ~self.fresh
        for part_sums in (
            settled.sums(columns, fixed[:, :, :stop]),
            live.sums(weights[:, :, live.rows], stop),
        ):
            if part_sums is not None:
                inputs += part_sums
        return inputs
