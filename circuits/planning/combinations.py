"""The cheapest way to do a job on given devices, among all settings that memory depends on.

Batch, layers run again, workers and a device map leave scores as they are but for the last digits;
a dtype and a quantisation change the numbers that the model computes with. So the answer is one
combination for each of these changes, the least first, and each is the fastest of its kind that
fits. Passes are counted at two batches of each dtype, quantisation and recomputation; all other
batches follow in proportion, and a device map and workers by what is said of them here:

Workers are processes with a model each, on one device, or on several over which a map spreads it.
They take batches in turn, so time divides by their number, but for what it takes to start them.

With a map, weights divide by whole layers, and so do what autograd keeps of a layer, which lives
where the layer runs, and the inside of one layer at a time. All that the engine, the executor and
the diff keep beside the passes (sources, gradients, scores, readers' weights) is brought to the
home of the model, the device of its embedding (`models/placement.py`): it counts there alone.
Layers run one after the other on whichever device, so a map saves no time.

Training runs in one process on one device. What can change there and leave the step as it is, is in
how many pieces its batch is run, and whether layers are run again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from transformers import PreTrainedConfig

from circuits.errors import CircuitsError
from circuits.options.choices import Quantisation
from circuits.options.tuning import StepOptions
from circuits.planning.device import Rates
from circuits.planning.devices import Devices
from circuits.planning.jobs import Case, Job
from circuits.planning.passes import Pass
from circuits.planning.plan import Plan, plan, with_slack
from circuits.planning.proportion import Proportion
from circuits.planning.spread import Spread, spreads
from circuits.runtime.batching import usual_batch_size

_STARTING = 20.0  # seconds until workers have begun, beside reading the model
_READING = 1e9  # bytes of weights that a worker reads in a second

Change = Literal["nothing", "products", "bfloat16", "int8", "nf4"]
"""What a combination changes: products are those of training, in mixed precision."""


@dataclass(frozen=True)
class Combination:
    """Settings of a job.

    batch: pairs at a time, or examples a step. devices: of a worker; a device map spreads the model
    over several. workers: 1 is this process, without an engine. step: how training runs a step.
    """

    dtype: torch.dtype
    quantize: Quantisation | None
    recompute: bool
    batch: int
    devices: int = 1
    workers: int = 1
    step: StepOptions = field(default_factory=StepOptions)


@dataclass(frozen=True)
class Fit:
    """A combination and what it takes.

    bytes: on the fullest device. seconds: for all pairs, or all training. spread: of the model over
    a worker's devices, if there are several.
    """

    changes: Change
    combination: Combination
    bytes: int
    seconds: float
    spread: Spread | None = None

    @property
    def rank(self) -> tuple[float, int, bool, int, int]:
        """Lower is better: time, told to a part in a thousand; then devices; then memory."""
        combination = self.combination
        used = combination.devices * combination.workers
        return (
            float(f"{self.seconds:.3g}"),
            used,
            combination.recompute or combination.step.gradient_checkpointing,
            self.bytes,
            combination.batch,
        )


@dataclass(frozen=True)
class FitSearch:
    """fits: the best combination for each change with which the job fits, the least change first.

    nearest: where none fits, the combination that misses by least.
    """

    fits: tuple[Fit, ...]
    nearest: Fit | None = None


def combinations(
    config: PreTrainedConfig,
    job: Job,
    devices: Devices,
    rates: Callable[[torch.dtype], Rates],
    *,
    batch: int | None = None,
    recompute: bool | None = None,
) -> FitSearch:
    """Find the cheapest combinations of settings with which a job fits its devices.

    Args:
        config: of the model.
        job: what is to be done. Its dtype, quantisation and step are what is asked for: others are
            changes, but for a step in more pieces or with layers run again. Its batch is one that
            training asks for; `batch` says it of all else.
        devices: what there is.
        rates: of such a device, by the dtype of the model.
        batch: the most pairs at a time; None takes the number that speed has a use for.
        recompute: whether layers are run again; None tries both.

    Returns:
        At most one combination for each change.

    Raises:
        CircuitsError: for a model that cannot be planned.
    """
    fits: list[Fit] = []
    misses: list[Fit] = []
    for change, variants in _variants(job):
        for variant in variants:
            search = _Search(config, change, variant, devices, rates(variant.multiplied_in))
            best = search.in_pieces() if job.cost.trains else search.best(batch, recompute)
            misses += search.misses
            if best is not None:
                fits.append(best)
                break
    nearest = None if fits else min(misses, key=lambda fit: fit.bytes)
    return FitSearch(tuple(fits), nearest)


def _variants(job: Job) -> Iterator[tuple[Change, list[Job]]]:
    """Each change with the jobs that make it; the second only where the first does not fit."""
    yield "nothing", [job]
    if job.cost.trains:
        if not job.step.bf16:
            yield "products", [replace(job, step=replace(job.step, bf16=True))]
        return
    narrow = []
    if job.shape.dtype.itemsize > torch.bfloat16.itemsize:
        narrow = [replace(job, shape=replace(job.shape, dtype=torch.bfloat16))]
        if job.quantize is None:
            yield "bfloat16", narrow
    kinds: tuple[Quantisation, ...] = ("int8", "nf4")
    for kind in kinds[kinds.index(job.quantize) + 1 if job.quantize else 0 :]:
        yield kind, [replace(variant, quantize=kind) for variant in (job, *narrow)]


class _Search:
    """Of one dtype and quantisation."""

    def __init__(
        self,
        config: PreTrainedConfig,
        change: Change,
        job: Job,
        devices: Devices,
        rates: Rates,
    ) -> None:
        self.config, self.change, self.job = config, change, job
        self.devices, self.rates = devices, rates
        self.misses: list[Fit] = []

    def best(self, batch: int | None, recompute: bool | None) -> Fit | None:
        """The fastest that fits."""
        fits: list[Fit] = []
        tried = [False, True] if self.job.cost.recomputes else [False]
        for again in tried if recompute is None else [recompute]:
            job = replace(self.job, recompute=again)
            batches = self._batches(batch)
            passes = Proportion.of(self.config, job, batches[-1])
            every = [fit for size in batches for fit in self._of_batch(passes.case(job.of(size)))]
            there = [fit for fit in every if fit.bytes <= self.devices.bytes_each]
            self.misses += [] if there else every
            fits += there
            fastest = min(every, key=lambda fit: fit.rank[0])
            if there and min(there, key=lambda fit: fit.rank[0]).rank[0] == fastest.rank[0]:
                break  # layers run again would not be faster, whatever fits with them
        return min(fits, key=lambda fit: fit.rank, default=None)

    def in_pieces(self) -> Fit | None:
        """Of training, the fastest way to run its step that fits: in fewest pieces, with layers run
        again or not.
        """
        asked, fits = self.job.step, list[Fit]()
        for again in [True] if asked.gradient_checkpointing else [False, True]:
            pieces = asked.accumulation
            while True:
                fit = self._of_step(replace(asked, accumulation=pieces), again=again)
                if fit is not None and fit.bytes <= self.devices.bytes_each:
                    fits.append(fit)
                    break
                self.misses += [] if fit is None else [fit]
                if fit is None or pieces >= self.job.shape.batch:
                    break
                pieces = min(2 * pieces, self.job.shape.batch)
        return min(fits, key=lambda fit: fit.rank, default=None)

    def _of_step(self, step: StepOptions, *, again: bool) -> Fit | None:
        """A way to run a step of training; None where the model cannot run layers again."""
        job = replace(self.job, step=replace(step, gradient_checkpointing=again))
        try:
            job_plan = plan(self.config, job, overhead=self.devices.overhead)
        except CircuitsError:
            if again and not self.job.step.gradient_checkpointing:
                return None
            raise
        shape = job.shape
        combination = Combination(shape.dtype, None, False, shape.batch, step=job.step)
        return Fit(self.change, combination, job_plan.total, job_plan.seconds(self.rates))

    def _batches(self, asked: int | None) -> list[int]:
        """Sizes worth trying: of each number of batches the smallest."""
        job = self.job
        shape, tokens = job.shape, job.cost.tokens
        most = asked or usual_batch_size(shape.length, job.n, shape.device, tokens)
        sizes = {math.ceil(job.n / number) for number in range(1, job.n + 1)}
        return sorted(size for size in sizes if size <= most)

    def _of_batch(self, case: Case) -> Iterator[Fit]:
        """All ways to share out the devices among workers."""
        job = case.job
        work_seconds = sum(map(self.rates.seconds, job.cost.work(case)))
        starting = _STARTING + job.cost.models * case.traced.weights / _READING
        number = math.ceil(job.n / job.shape.batch)
        make = partial(Combination, job.shape.dtype, job.quantize, job.recompute, job.shape.batch)
        for each in range(1, self.devices.count + 1):
            most = 1 if job.cost.alone else min(self.devices.count // each, number)
            for workers in range(1, most + 1):
                fullest = self._fullest(case, each, workers)
                if fullest is not None:
                    seconds = math.ceil(number / workers) * work_seconds + starting * (workers > 1)
                    yield Fit(self.change, make(each, workers), fullest[0], seconds, fullest[1])

    def _fullest(self, case: Case, each: int, workers: int) -> tuple[int, Spread | None] | None:
        """Bytes on the fullest device of a worker that has so many; None where no map fills them.

        The model of the process that hands out work is on the CPU, but one that is spread stands on
        the same devices as that of the first worker.
        """
        overhead = self.devices.overhead
        if each == 1:
            phases = case.job.cost.phases(case)
            job_plan = Plan(case.job, case.sizes, case.traced, case.lasting, phases, overhead)
            return job_plan.total, None
        copies = case.job.cost.models * (2 if workers > 1 else 1)
        tried = (
            (max(map(partial(_on, case, spread, copies), range(each))) + overhead, spread)
            for spread in spreads(case.traced.parts, each)
        )
        return min(tried, key=lambda load: load[0], default=None)


def _on(case: Case, spread: Spread, copies: int, device: int) -> int:
    """Bytes of weights, passes and buffers on one of the devices that a model is spread over."""
    step, cost = case.traced.step, case.job.cost
    kept_bytes = step.saved * spread.layers[device] // sum(spread.layers)
    here = replace(case.traced, step=replace(step, peak=step.peak - step.saved + kept_bytes))
    phases = cost.phases(replace(case, traced=here))
    ours = cost.phases(replace(case, traced=replace(here, forward=Pass(), step=Pass())))
    working = max(
        sum(parts.values()) - (sum(ours[name].values()) if device else 0)
        for name, parts in phases.items()
    )
    return copies * spread.weights[device] + with_slack(working, case.job.shape.device)
