"""Activation patching: every site of a kind, one after the other, exactly.

1. Run the batch clean and corrupted. One run is the base, the other the donor.
2. For each layer, sort the sites by the first position that they can change.
3. Stack as many copies of the batch as fit, each with a site of its own, go on with the base run
   from that layer and position (`base.py`), and read the metrics.

A site that can change nothing is not run: positions before the first difference of the two
prompts hold the same in both, and positions after the last read are not looked at.

Sources: Meng et al. 2022 (arXiv:2202.05262), section 2; Zhang and Nanda 2023 (arXiv:2309.16042),
on directions and metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.intervention.patching.base import ResumePoint
from circuits.intervention.patching.grid import SweepGrid
from circuits.intervention.patching.origin import origin
from circuits.intervention.patching.paired_runs import PairedRuns, Side
from circuits.intervention.patching.readouts import readouts
from circuits.intervention.patching.result import Patching
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from circuits.options.patching import PatchSpec
from circuits.options.run import RunOptions
from circuits.runtime.batching import over_batches
from circuits.runtime.resume import PartialResults
from circuits.runtime.runs_bar import RunsBar
from tasks.pairs import PairBatch, PairSet

_LOGITS = 2**26  # numbers in the logits of one pass, at most
# Sites that share a pass start at the first one's position, so that full passes cost positions that
# need no computing. On a CPU, 256 to 512 tokens were quickest of 128 to 2048.
_TOKENS = {"cpu": 512}
_TOKENS_ELSEWHERE = 8192
_POSITION = 2  # of (layer, unit, position)

Logits = Float[Tensor, "copy read vocab"]
Cell = tuple[int, int]  # an entry of positions and one of units


@torch.no_grad()
def patch(
    model: HookedModel,
    pairs: PairSet,
    spec: PatchSpec | None = None,
    *,
    metrics: str | Sequence[str] | None = None,
    tokens: int | None = None,
    options: RunOptions | None = None,
    resume: PartialResults | None = None,
) -> Patching:
    """Patch every site of a kind and measure the effect on the answer.

    Args:
        model: a decoder-only model.
        pairs: clean and corrupted prompts.
        spec: what is patched, and in which direction; None patches the residual stream before every
            layer at every position, clean into corrupted.
        metrics: names from `circuits.metrics`, or "probability", "logit" and "rank" of the answer
            or of a token ("rank: Paris"); None is the pairs' own.
        tokens: how many tokens one pass holds, all copies together; None takes 512 on a CPU, 8192
            elsewhere.
        options: batch size and progress bar; nothing here is random.
        resume: keeps what is done so far in a file; the same call continues from it.

    Returns:
        One value an example and site for each metric, with the unpatched runs'.

    Raises:
        CircuitsError: for a site, an axis, an index or a metric that the model does not have.
    """
    options = options or RunOptions()
    grid = SweepGrid.of(model, pairs, spec or PatchSpec())
    judges = readouts(model, pairs, metrics)
    engine = options.engine
    device = model.device.type if engine is None else engine.device
    fit = tokens or _TOKENS.get(device, _TOKENS_ELSEWHERE)
    values = torch.zeros(len(judges), len(pairs), *grid.shape, dtype=torch.float64)
    ends = torch.zeros(2, len(judges), len(pairs), dtype=torch.float64)
    resume = resume or PartialResults()
    resume.restore(
        len(pairs),
        {
            **asdict(grid.spec),
            "metrics": [judge.name for judge in judges],
            "model": [model.fingerprint, str(model.hf.dtype)],
            "pairs": pairs.fingerprints,
            "batch size": [options.batch_size, fit],
        },
        {"values": values, "ends": ends},
    )
    title = f"patching {grid.site.name}" if options.progress else None
    done = int(resume.done.sum())
    with RunsBar(title, examples=len(pairs), runs=grid.shape.numel(), done=done) as bar:
        for batch, batch_values in over_batches(
            model,
            pairs,
            _Sweeps(grid, judges, fit, bar.within if engine is None else None),
            batch_size=options.batch_size,
            done=resume.done,
            engine=engine,
        ):
            examples = batch.index.cpu()
            values[:, examples], ends[:, :, examples] = (part.cpu() for part in batch_values)
            bar.finish(len(batch))
            resume.keep(examples)
    axes = tuple(grid.axis(index, model, pairs) for index in grid.swept)
    shape = [len(axis.values) for axis in axes]
    names = [judge.name for judge in judges]
    return Patching(
        site=grid.site.name,
        direction=grid.direction,
        axes=axes,
        values={name: v.reshape(-1, *shape) for name, v in zip(names, values, strict=True)},
        clean=dict(zip(names, ends[0], strict=True)),
        corrupted=dict(zip(names, ends[1], strict=True)),
        spec=grid.spec,
        provenance=origin(model, pairs, options),
    )


@dataclass(frozen=True)
class _Sweeps:
    """The work on a batch; gives its `BatchSweep.values` and `ends`.

    show: is told how many runs of the batch are done; None where that is out of sight.
    """

    grid: SweepGrid
    judges: tuple[Metric, ...]
    tokens: int
    show: Callable[[int], None] | None

    @torch.no_grad()
    def __call__(self, model: HookedModel, batch: PairBatch) -> tuple[Tensor, Tensor]:
        sweep = BatchSweep(PairedRuns(model, batch), self.grid, self.judges, self.tokens)
        done = 0
        for runs in sweep.run():
            done += runs
            if self.show is not None:
                self.show(done)
        return sweep.values, sweep.ends


class BatchSweep:
    """The sweep on one batch.

    values: (metric, example, layer, unit, position). known: which entries of the last three axes
    have been run, or need no run. ends: (2, metric, example) of the clean and the corrupted run.
    """

    def __init__(
        self, runs: PairedRuns, grid: SweepGrid, judges: Sequence[Metric], tokens: int
    ) -> None:
        """runs: of the batch; those that are missing are made. tokens: in one pass, at most."""
        self.model, self.batch, self.grid, self.judges = runs.model, runs.batch, grid, judges
        self.tokens = tokens
        denoise = grid.direction == "denoise"
        sides: tuple[Side, Side] = ("clean", "corrupted")
        donor_side, base_side = sides if denoise else sides[::-1]
        self.base, self.resumes = runs.base(base_side)
        self.clean, corrupted = runs.logits("clean"), runs.logits("corrupted")
        used = sorted({layer for entry in grid.layers for layer in entry})
        self.donor = runs.donor(grid.site, donor_side, used)
        self.where = grid.where(self.batch)
        self.units = grid.units_of(self.donor[used[0]].shape[2]).to(self.where.device)
        self.ends = torch.stack(
            [self._read(logits[None])[..., 0] for logits in (self.clean, corrupted)]
        )
        unpatched = self.ends[int(denoise)]
        self.values = unpatched[..., None, None, None].repeat(1, 1, *grid.shape)
        self.known = torch.ones(grid.shape, dtype=torch.bool, device=self.where.device)
        self.known[:, :, list(self._first_changes())] = False

    def run(self) -> Iterator[int]:
        """Fill in `values`, and say how many runs were made at a time, or needed none."""
        firsts = self._first_changes()
        cells = [
            (position, unit)
            for position in sorted(firsts, key=lambda p: firsts[p])
            for unit in range(len(self.grid.units))
        ]
        cell_indices = torch.tensor(cells, dtype=torch.long).view(-1, 2).T.to(self.where.device)
        for entry, layers in enumerate(self.grid.layers):
            for first, part in self._passes(cells, firsts):
                start = ResumePoint(0, 0)
                if self.resumes:
                    layer = min(layers) + self.grid.site.offset
                    start = ResumePoint(layer, 0 if self.grid.site.needs_earlier else first)
                position, unit = cell_indices[:, part]
                patch_mask = self._chosen(position, unit)[..., start.position :, :]
                hooks = Hooks()
                for layer in layers:
                    self._patch(hooks, layer, start, patch_mask)
                read = self._read(self.base.run_from(start, len(patch_mask), hooks))
                self.values[:, :, entry, unit, position] = read
                self.known[entry, unit, position] = True
                yield len(patch_mask) * len(self.batch)
        if _POSITION in self.grid.swept:
            absent = ~self.where.any(dim=2).T  # example, position
            self.values.masked_fill_(absent[None, :, None, None, :], torch.nan)
        idle = self.grid.shape.numel() - len(cells) * len(self.grid.layers)
        yield idle * len(self.batch)

    def _first_changes(self) -> dict[int, int]:
        """The first column, in any example, that an entry of positions can change; if any."""
        columns = torch.arange(self.batch.mask.shape[1], device=self.where.device)
        last = columns.new_zeros(len(self.batch))
        last = last.scatter_reduce(0, self.batch.example_index, self.batch.position, "amax")
        differs = self.batch.clean != self.batch.corrupted
        open_ = (differs.cumsum(dim=1) > 0) & (columns <= last[:, None])
        alive = (self.where & open_).any(dim=1).tolist()  # entry, column
        return {entry: row.index(True) for entry, row in enumerate(alive) if any(row)}

    def _passes(self, cells: list[Cell], firsts: dict[int, int]) -> Iterator[tuple[int, slice]]:
        """Which cells are run together, with the first column that any of them can change."""
        reads, d_vocab = self.clean.shape
        begin = 0
        while begin < len(cells):
            first = firsts[cells[begin][0]]
            width = self.batch.mask.shape[1] - first
            fit = min(self.tokens // (len(self.batch) * width), _LOGITS // (reads * d_vocab))
            part = slice(begin, min(begin + max(1, fit), len(cells)))
            yield first, part
            begin = part.stop

    def _chosen(
        self, position: Int[Tensor, " copy"], unit: Int[Tensor, " copy"]
    ) -> Bool[Tensor, "copy batch pos unit"]:
        """What each copy has patched: its entry of positions, at its entry of units."""
        where, units = self.where.index_select(0, position), self.units.index_select(0, unit)
        return where[..., None] & units[:, None, None]

    def _patch(
        self,
        hooks: Hooks,
        layer: int,
        start: ResumePoint,
        patch_mask: Bool[Tensor, "copy batch pos unit"],
    ) -> None:
        """Edits of one layer: what is chosen takes the donor's value."""
        donor = self.donor[layer][:, start.position :]
        self.grid.site.attach(
            hooks,
            self.model.view.layers[layer],
            patch_mask.flatten(0, 1),
            donor.repeat(len(patch_mask), 1, 1, 1),
        )

    def _read(self, logits: Logits) -> Float[Tensor, "metric batch copy"]:
        """Every metric of every copy."""
        copies = len(logits)
        batch = self.batch.repeat(copies)
        values = []
        for judge in self.judges:
            reference = self.clean.repeat(copies, 1) if judge.needs_reference else None
            values.append(judge(logits.flatten(0, 1), batch, reference).view(copies, -1).T)
        return torch.stack(values).double()
