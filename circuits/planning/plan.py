"""Whether a job fits a device, and how long it takes, before a weight is read.

Memory = weights + the fullest phase of the job + the allocator's slack + Python and its libraries.
A phase is what the model's passes keep alive (counted by `passes.trace`) and what our own code
keeps beside it (`buffers`). Time = operations counted by the same trace over the device's measured
rates.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from transformers import AutoConfig, PreTrainedConfig

from circuits.errors import CircuitsError
from circuits.planning.buffers import (
    contraction_buffers,
    engine_buffers,
    executor_buffers,
    source_bytes,
)
from circuits.planning.device import Rates
from circuits.planning.passes import Shape, Traced, trace
from circuits.planning.sizes import Sizes

STEPS = {"eap-ig": 5, "eap": 1, "clean-corrupted": 2}
"""Attribution method -> its forward and backward passes, unless told."""

METHODS = (*STEPS, "evaluate", "finetune")
_CURVE = 10 * 5  # points of a curve; signed, absolute and three random rankings
_ADAM = 2  # moments of each weight
_SLACK = {"cpu": 0.5, "cuda": 0.1}
"""Share of the tensors' bytes that the allocator holds beyond them; see docs/plan.md."""

Phases = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Job:
    """What is to be done: a method on `n` pairs, in batches of a shape."""

    shape: Shape
    method: str = "eap-ig"
    steps: int | None = None
    n: int = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise CircuitsError(f"no plan for {self.method!r}; known: {', '.join(METHODS)}")
        shape = self.shape
        if min(self.n, shape.batch, shape.length, shape.reads) < 1:
            raise CircuitsError(f"{self}: every number must be at least 1")
        if not 0 <= shape.shared <= shape.length - shape.reads:
            raise CircuitsError(
                f"{shape.shared} shared positions of {shape.length}, {shape.reads} of them read: "
                "what is read is never shared"
            )
        if self.steps is not None and self.steps < 1:
            raise CircuitsError(f"steps={self.steps}: it must be at least 1")

    @property
    def passes(self) -> int:
        """Forward and backward passes a batch."""
        return self.steps or STEPS.get(self.method, 1)

    def of(self, batch: int) -> Job:
        """The same job in other batches."""
        return replace(self, shape=replace(self.shape, batch=batch))


@dataclass(frozen=True)
class Plan:
    """The memory of a job, in bytes.

    phases: phase -> part -> bytes, beside the weights. slack: share that the allocator adds.
    overhead: Python, its libraries, a CUDA context: what is there without the job.
    """

    job: Job
    sizes: Sizes
    traced: Traced
    phases: Phases
    slack: float
    overhead: int

    @property
    def fullest(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def working(self) -> int:
        """Bytes beside the weights, slack included."""
        return round((1 + self.slack) * sum(self.phases[self.fullest].values()))

    @property
    def total(self) -> int:
        """All bytes that the process holds at its peak."""
        return self.traced.weights + self.working + self.overhead

    def seconds(self, rates: Rates) -> float:
        """Time for all pairs, all batches full and as long as the longest."""
        batches = math.ceil(self.job.n / self.job.shape.batch)
        step, forward = rates.seconds(self.traced.step), rates.seconds(self.traced.forward)
        once = 0.0 if self.traced.prefix is None else rates.seconds(self.traced.prefix)
        if self.job.method in STEPS:
            own = _contraction(self.sizes, self.job) / rates.matmul
            return batches * (once + self.job.passes * step + 2 * forward + own)
        if self.job.method == "evaluate":
            own = _sums_of_sources(self.sizes, self.job) / rates.matmul
            return batches * (once + (2 + _CURVE) * forward + _CURVE * own)
        return batches * step


def plan(config: PreTrainedConfig, job: Job, *, overhead: int = 0) -> Plan:
    """Plan a job on a model of this configuration.

    overhead: bytes held before anything is loaded; `device.resident_bytes` on a CPU.
    """
    sizes = Sizes.of(config)
    if sizes.context is not None and job.shape.length > sizes.context:
        raise CircuitsError(
            f"{job.shape.length} tokens, but the model's context window holds {sizes.context}"
        )
    traced = trace(config, job.shape, trainable=job.method == "finetune")
    slack = _SLACK.get(job.shape.device, 0.1)
    return Plan(job, sizes, traced, _phases(sizes, traced, job), slack, overhead)


def largest_batch(config: PreTrainedConfig, job: Job, available: int) -> int:
    """The most pairs a batch whose phases stay within `available` bytes, beside the weights.

    0 where not even one does. Every phase grows in a straight line with the batch.
    """
    one, two = (plan(config, job.of(batch)) for batch in (1, 2))
    most = job.n
    for name in one.phases:
        first, second = ((1 + each.slack) * sum(each.phases[name].values()) for each in (one, two))
        if first > available:
            return 0
        most = min(most, 1 + int((available - first) // max(1.0, second - first)))
    return most


def planned_batch_size(
    config: PreTrainedConfig,
    length: int,
    available: int,
    *,
    method: str = "eap-ig",
    steps: int | None = None,
    reads: int = 1,
    n: int = 1024,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> int:
    """Pairs a batch for a model that is loaded already, at least 1.

    length: tokens of the longest pair. available: free bytes of the device, now. n: pairs in all.
    """
    shape = Shape(1, length, reads, dtype, device)
    return _planned(config.to_json_string(use_diff=False), shape, method, steps, n, available)


@lru_cache(maxsize=32)
def _planned(
    config: str, shape: Shape, method: str, steps: int | None, n: int, available: int
) -> int:
    known = AutoConfig.for_model(**json.loads(config))
    return max(1, largest_batch(known, Job(shape, method, steps, n), available))


def suggestions(config: PreTrainedConfig, made: Plan, available: int) -> list[str]:
    """What to change so that a job fits that does not; empty where nothing of this helps."""
    job, found = made.job, []

    def fits(other: Job) -> bool:
        return plan(config, other, overhead=made.overhead).total <= available

    left = available - made.traced.weights - made.overhead
    if (batch := largest_batch(config, job, left)) >= 1:
        found.append(f"--batch-size {batch}")
    one = job.of(1)
    if job.shape.dtype == torch.float32:
        half = replace(one, shape=replace(one.shape, dtype=torch.bfloat16))
        if fits(half):
            left = available - made.overhead - plan(config, half).traced.weights
            found.append(f"--dtype bfloat16 --batch-size {largest_batch(config, half, left)}")
    if batch < 1:
        halves = (job.shape.length >> k for k in range(1, job.shape.length.bit_length()))
        for length in halves:
            if fits(replace(one, shape=replace(one.shape, length=length))):
                found.append(f"prompts of at most {length} tokens, one at a time")
                break
        if job.method == "eap-ig" and fits(replace(one, steps=1)):
            found.append("--method eap, or fewer steps")
    return found


def _phases(sizes: Sizes, traced: Traced, job: Job) -> Phases:
    shape = job.shape
    if job.method in STEPS:
        kept = engine_buffers(sizes, shape, job.passes)
        return {
            "clean and corrupted runs": {
                "source outputs": 2 * source_bytes(sizes, shape),
                "forward pass": traced.forward.peak,
            },
            "gradients along the path": {**kept, "forward and backward pass": traced.step.peak},
            "sources against readers": {
                **kept,
                **contraction_buffers(sizes, shape, job.passes),
            },
        }
    if job.method == "evaluate":
        return {"running circuits": executor_buffers(sizes, shape)}
    return {
        "training": {
            "forward and backward pass": traced.step.peak,
            "optimizer": _ADAM * traced.weights,
        }
    }


def _contraction(sizes: Sizes, job: Job) -> int:
    """Operations of the engine's last step, per batch, at all positions."""
    layout, d, tokens = sizes.layout, sizes.d_model, job.shape.tokens
    sources, layers = layout.shape[0], layout.n_layers
    widen = layers * (layout.n_heads + sizes.ports) * sizes.d_head * d
    direct = layout.n_edges * d
    rank_one = layers * job.passes * sources * d + layout.n_edges * job.passes
    return 2 * tokens * (widen + direct + rank_one)


def _sums_of_sources(sizes: Sizes, job: Job) -> int:
    """Operations beside the forward pass of one run on a circuit, at the mean size of a curve."""
    tokens = job.shape.tokens
    share = 0.09  # mean of the fractions, where none and all of the edges need no sums
    return 2 * tokens * round(share * sizes.layout.n_edges) * sizes.d_model
