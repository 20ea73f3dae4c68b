"""Whether a job fits a device, and how long it takes, before a weight is read.

Memory = what is there throughout (weights, an optimizer's moments) + the fullest phase of the job +
the allocator's slack on it + Python and its libraries.
A phase is what the passes keep alive (counted by `passes.count_passes`) and what our own code
keeps beside it (`buffers`). Time = operations counted by the same trace over the device's measured
rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from transformers import PreTrainedConfig

from circuits.errors import CircuitsError
from circuits.planning.device import Rates
from circuits.planning.jobs import Case, Job, Phases
from circuits.planning.passes import TracedPasses, count_passes
from circuits.planning.sizes import Sizes

_SLACK = {"cpu": 0.5, "cuda": 0.1}
"""Share of the tensors' bytes that the allocator holds beyond them; see docs/plan.md."""


@dataclass(frozen=True)
class Plan:
    """The memory of a job, in bytes.

    lasting: part -> bytes that are there throughout. phases: phase -> part -> bytes beside those.
    overhead: Python, its libraries, a CUDA context: what is there without the job.
    """

    job: Job
    sizes: Sizes
    traced: TracedPasses
    lasting: dict[str, int]
    phases: Phases
    overhead: int

    @property
    def fullest(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def fixed_bytes(self) -> int:
        """Bytes that no other batch size changes."""
        return sum(self.lasting.values()) + self.overhead

    @property
    def working(self) -> int:
        """Bytes of the fullest phase, slack included."""
        return with_slack(sum(self.phases[self.fullest].values()), self.job.shape.device)

    @property
    def total(self) -> int:
        """All bytes that the process holds at its peak."""
        return self.fixed_bytes + self.working

    def seconds(self, rates: Rates) -> float:
        """Time for all pairs, all batches full and as long as the longest; or for all training.

        Args:
            rates: of the device, from `measure_rates`.

        Returns:
            Seconds.
        """
        cost = self.job.cost
        work_seconds = sum(map(rates.seconds, cost.work(Case(self.job, self.sizes, self.traced))))
        return (
            work_seconds
            if cost.trains
            else work_seconds * math.ceil(self.job.n / self.job.shape.batch)
        )


def plan(config: PreTrainedConfig, job: Job, *, overhead: int = 0) -> Plan:
    """Plan a job on a model of this configuration.

    Args:
        config: of the model; no weight is read.
        job: what is to be done.
        overhead: bytes held before anything is loaded; `device.resident_bytes` on a CPU.

    Returns:
        What it takes, phase by phase.

    Raises:
        CircuitsError: for a model that cannot be planned.
    """
    sizes = Sizes.of(config)
    if sizes.n_ctx is not None and job.shape.length > sizes.n_ctx:
        raise CircuitsError(
            f"{job.shape.length} tokens, but the model's context window holds {sizes.n_ctx}"
        )
    traced = count_passes(
        config,
        job.shape,
        trains=job.cost.trains,
        recompute=job.recompute,
        quantize=job.quantize,
        how=job.step,
    )
    case = Case(job, sizes, traced)
    return Plan(job, sizes, traced, case.lasting, job.cost.phases(case), overhead)


def with_slack(tensors: int, device: str) -> int:
    """Bytes that the allocator holds for so many bytes of tensors.

    Args:
        tensors: their bytes.
        device: "cpu" or "cuda".

    Returns:
        Bytes held.
    """
    return round((1 + _SLACK.get(device, 0.1)) * tensors)


def largest_batch(config: PreTrainedConfig, job: Job, available: int) -> int:
    """The most pairs a batch, of `job.n`, whose phases stay within `available` bytes; 0 for none.

    Memory is a maximum of straight lines over the batch, so where the chord between a batch that
    fits and one that does not crosses the limit, a batch fits.

    Args:
        config: of the model.
        job: what is to be done; its own batch does not matter.
        available: bytes.

    Returns:
        Pairs at a time, from 0 to `job.n`.
    """

    def working(batch: int) -> int:
        return plan(config, job.of(batch)).working

    high, above = job.n, working(job.n)
    if above <= available:
        return high
    low, below = 1, working(1)
    if below > available:
        return 0
    while (middle := low + int((available - below) * (high - low) / (above - below))) > low:
        size = working(middle)
        if size > available:
            high, above = middle, size
        else:
            low, below = middle, size
    while low + 1 < high and working(low + 1) <= available:  # bytes are rounded
        low += 1
    return low
