"""Path patching: the direct effect of one node on another, exactly.

For the edges u -> v that are patched together, with the base run and the donor run of the other
prompt:

1. *Receivers.* Run the base prompt with the senders' outputs taken from the donor run and every
   other head's output (z) frozen to the base run. With `freeze_mlps` the other MLPs' outputs are
   frozen too, so that only the edge itself carries the change: v reads its base input with u's
   output exchanged. Without it they are recomputed, so that paths from u to v through MLPs count as
   well, as in Wang et al. Norms, and the receivers' own projections, are always recomputed. Keep
   what v reads: a head's q, k or v, an MLP's input, or what the unembedding's norm is given.
2. *Effect.* Run the base prompt with those values at the receivers, and nothing else touched:
   everything after a receiver is recomputed.

With several receivers each is given its value from step 1, so one receiver's change does not reach
another through step 1. With one edge and frozen MLPs this is a circuit of all edges but that one
(`CircuitRunner`).

Source: Wang et al. 2022 (arXiv:2211.00593), section 3.1 and appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.intervention.patching.origin import origin
from circuits.intervention.patching.readouts import readouts
from circuits.intervention.patching.result import Axis, Patching
from circuits.intervention.patching.sites import SITES, HookPoint, Value, reader_hook_point
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from circuits.models.stream import SourceActivations
from circuits.options.choices import Direction
from circuits.options.run import RunOptions
from circuits.runtime.batching import over_batches
from circuits.runtime.resume import PartialResults
from circuits.runtime.runs_bar import RunsBar
from tasks.pairs import PairBatch, PairSet

Path = str | Sequence[str]


@torch.no_grad()
def path_patch(
    model: HookedModel,
    pairs: PairSet,
    paths: Sequence[Path],
    *,
    direction: Direction = "noise",
    freeze_mlps: bool = True,
    metrics: str | Sequence[str] | None = None,
    options: RunOptions | None = None,
    resume: PartialResults | None = None,
) -> Patching:
    """Patch each path and measure the effect on the answer.

    Args:
        model: a decoder-only model.
        pairs: clean and corrupted prompts.
        paths: edges ("a0.h3->a5.h1<q>"), or sets of edges that are patched together: a sequence, or
            "a0.h3->a5.h1<q>+a0.h3->a6.h0<q>".
        direction: "noise" brings the corrupted run's sender into the clean run, as Wang et al. do;
            "denoise" the clean run's into the corrupted one.
        freeze_mlps: whether MLPs between sender and receiver keep their base output (above).
        metrics: as for `patch`.
        options: batch size and progress bar; nothing here is random.
        resume: keeps what is done so far in a file; the same call continues from it.

    Returns:
        One value an example and path for each metric, with the unpatched runs'.

    Raises:
        CircuitsError: for a path or a metric that the model does not have.
    """
    options = options or RunOptions()
    if not paths:
        raise CircuitsError("no path was given; write one as a0.h3->a5.h1<q>")
    model.validate(pairs)
    names = [tuple(path.split("+") if isinstance(path, str) else path) for path in paths]
    edges = [[model.layout.edge(name.strip()) for name in path] for path in names]
    judges = readouts(model, pairs, metrics)
    values = torch.zeros(len(judges), len(pairs), 2 + len(edges), dtype=torch.float64)

    resume = resume or PartialResults()
    resume.restore(
        len(pairs),
        {
            "paths": names,
            "direction": direction,
            "freeze_mlps": freeze_mlps,
            "metrics": [judge.name for judge in judges],
            "model": [model.fingerprint, str(model.hf.dtype)],
            "pairs": pairs.fingerprints,
            "batch size": options.batch_size,
        },
        {"values": values},
    )
    title = "patching paths" if options.progress else None
    done = int(resume.done.sum())
    with RunsBar(title, examples=len(pairs), runs=values.shape[2], done=done) as bar:
        show = bar.within if options.engine is None else None
        for batch, batch_values in over_batches(
            model,
            pairs,
            _Effects(edges, direction, freeze_mlps, judges, show),
            batch_size=options.batch_size,
            done=resume.done,
            engine=options.engine,
        ):
            values[:, batch.index.cpu()] = batch_values.double().cpu()
            resume.keep(batch.index)
            bar.finish(len(batch))
    labels = tuple("+".join(path) for path in names)
    by_metric = {judge.name: v for judge, v in zip(judges, values, strict=True)}
    return Patching(
        site="path",
        direction=direction,
        axes=(Axis("path", tuple(range(len(labels))), labels),),
        values={name: v[:, 2:] for name, v in by_metric.items()},
        clean={name: v[:, 0] for name, v in by_metric.items()},
        corrupted={name: v[:, 1] for name, v in by_metric.items()},
        freeze_mlps=freeze_mlps,
        provenance=origin(model, pairs, options),
    )


@dataclass(frozen=True)
class _Effects:
    """The work on a batch.

    edges: those that are patched together, as (row, column).
    show: is told how many runs of the batch are done; None where that is out of sight.
    """

    edges: list[list[tuple[int, int]]]
    direction: Direction
    freeze_mlps: bool
    judges: tuple[Metric, ...]
    show: Callable[[int], None] | None

    @torch.no_grad()
    def __call__(self, model: HookedModel, batch: PairBatch) -> Float[Tensor, "metric batch run"]:
        runs = _Paths(model, batch, self.direction, self.freeze_mlps)
        logits = [runs.clean, runs.corrupted]
        for edges in self.edges:
            if self.show is not None:
                self.show(len(logits) * len(batch))
            logits.append(runs.logits(edges))
        read = [
            [judge(run_logits, batch, runs.clean) for run_logits in logits] for judge in self.judges
        ]
        return torch.stack([torch.stack(per_run, dim=1) for per_run in read])


class _Paths:
    """Path patching on one batch."""

    def __init__(
        self, model: HookedModel, batch: PairBatch, direction: Direction, freeze_mlps: bool
    ) -> None:
        self.model, self.batch, self.freeze_mlps = model, batch, freeze_mlps
        self.clean, clean = self._record(batch.clean)
        self.corrupted, corrupted = self._record(batch.corrupted)
        if direction == "noise":
            self.tokens, self.base, self.donor = batch.clean, clean, corrupted
        else:
            self.tokens, self.base, self.donor = batch.corrupted, corrupted, clean

    def logits(self, edges: Sequence[tuple[int, int]]) -> Float[Tensor, "read vocab"]:
        """Answer logits of the batch with these edges, as (row, column), patched together."""
        senders: dict[int, set[int]] = {}
        for row, column in edges:
            senders.setdefault(column, set()).add(row)
        by_senders: dict[frozenset[int], list[int]] = {}
        for column, rows in senders.items():
            by_senders.setdefault(frozenset(rows), []).append(column)
        hooks = Hooks()
        for together, columns in by_senders.items():
            for column, value in self._received(together, columns).items():
                self._give(hooks, column, value)
        return self.model.logits(self.tokens, self.batch, hooks)

    def _received(self, senders: frozenset[int], columns: list[int]) -> dict[int, Value]:
        """Step 1: what the receivers read."""
        view, layout = self.model.view, self.model.layout
        hooks = Hooks()
        if 0 in senders:
            hooks.before(view.layers[0].block, lambda _: self.donor.inputs[0])
        for index, layer in enumerate(view.layers):
            z = self.base.z[index]
            first = layout.head_rows(index).start
            heads = [row - first for row in senders if row in range(first, first + z.shape[2])]
            if heads:
                z = z.clone()
                for head in heads:
                    z[:, :, head] = self.donor.z[index][:, :, head]
            SITES["z"].hook_point(layer).hook(hooks, partial(_instead, z))
            sends = layout.mlp_row(index) in senders
            if sends or self.freeze_mlps:
                mlp = (self.donor if sends else self.base).mlp[index]
                SITES["mlp_out"].hook_point(layer).hook(hooks, partial(_instead, mlp))
        received: dict[int, Value] = {}

        def keep(column: int, point: HookPoint, x: Tensor) -> None:
            received[column] = point.read(x, len(self.batch))

        for column in columns:
            point, _ = reader_hook_point(view, layout.reader_nodes[column])
            point.hook(hooks, partial(keep, column, point))
        self.model.logits(self.tokens, self.batch, hooks)
        return received

    def _give(self, hooks: Hooks, column: int, value: Value) -> None:
        """Step 2: have a receiver read this value."""
        point, unit = reader_hook_point(self.model.view, self.model.layout.reader_nodes[column])
        mask = torch.zeros(value.shape[:3], dtype=torch.bool, device=value.device)
        mask[:, :, unit] = True
        point.hook(hooks, lambda x: point.with_value(x, mask, value))

    def _record(
        self, tokens: Int[Tensor, "batch pos"]
    ) -> tuple[Float[Tensor, "read vocab"], SourceActivations]:
        states, hooks = SourceActivations(self.model.view), Hooks()
        states.record(hooks)
        return self.model.logits(tokens, self.batch, hooks), states


def _instead(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(x.shape)
