"""What each method keeps in memory while it works on a batch, and what it computes.

A phase is what the model's passes keep alive (counted by `passes.trace`) and what our own code
keeps beside them (`buffers`). Work is the passes that a method is made of and its own products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from circuits.errors import CircuitsError
from circuits.planning import buffers
from circuits.planning.passes import Shape, TracedPasses, Workload
from circuits.planning.sizes import Sizes
from circuits.runtime.limits import PATTERN_READS

_CURVE = 10 * 5  # points of a curve; signed, absolute and three random rankings
_ADAM = 2  # moments of each weight that is trained
_FLOAT = 4

Phases = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Job:
    """What is to be done: a method on `n` pairs, in batches of a shape.

    steps: points on the path; of finetune and lora, optimizer steps, which then say how long it
        takes and not `n`. None takes what the method does unless told.
    """

    shape: Shape
    method: str = "eap-ig"
    steps: int | None = None
    n: int = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise CircuitsError(f"no plan for {self.method!r}; known: {', '.join(METHODS)}")
        shape = self.shape
        if min(self.n, shape.batch, shape.length, shape.answer_positions) < 1:
            raise CircuitsError(f"{self}: every number must be at least 1")
        if shape.answer_positions > shape.length:
            raise CircuitsError(
                f"{shape.answer_positions} answer tokens in prompts of {shape.length} tokens"
            )
        if not 0 <= shape.shared <= shape.length - shape.answer_positions:
            raise CircuitsError(
                f"{shape.shared} shared positions of {shape.length}, {shape.answer_positions} "
                "of them read: what is read is never shared"
            )
        if self.steps is not None and not self.account.counted:
            raise CircuitsError(f"{self.method} takes no number of steps")
        if self.steps is not None and self.steps < 1:
            raise CircuitsError(f"steps={self.steps}: it must be at least 1")
        if not self.account.splits:
            object.__setattr__(self, "shape", replace(shape, shared=0))
        if self.account.trains and shape.dtype != torch.float32:
            raise CircuitsError(f"{self.method} trains in float32; leave the dtype out")

    @property
    def account(self) -> CostModel:
        """What the method keeps and does."""
        return ACCOUNTS[self.method]

    @property
    def passes(self) -> int:
        """Forward and backward passes: of a batch, or of all training."""
        return self.steps or self.account.steps

    def of(self, batch: int) -> Job:
        """The same job in other batches."""
        return replace(self, shape=replace(self.shape, batch=batch))


@dataclass(frozen=True)
class Case:
    """A job on a model whose passes were counted."""

    job: Job
    sizes: Sizes
    traced: TracedPasses

    @property
    def lasting(self) -> dict[str, int]:
        """Bytes that are there throughout, part by part."""
        parts = {"weights": self.job.account.models * self.traced.weights}
        moments = {"moments of the optimizer": _ADAM * self.traced.trained}
        return parts | moments if self.job.account.trains else parts


@dataclass(frozen=True)
class CostModel:
    """phases: name -> part -> bytes, beside what is there throughout. work: of one batch.

    steps: unless told. counted: whether the user says how many. trains: "weights", "lora" or None.
    splits: whether what prompts share is run once. tokens: at a time; None takes the usual number.
    models: how many are loaded.
    """

    phases: Callable[[Case], Phases]
    work: Callable[[Case], Workload]
    steps: int = 1
    counted: bool = False
    trains: str | None = None
    splits: bool = False
    tokens: int | None = None
    models: int = 1


def _path_phases(case: Case) -> Phases:
    sizes, shape, passes = case.sizes, case.job.shape, case.job.passes
    kept = buffers.engine_buffers(sizes, shape, passes)
    return {
        "clean and corrupted runs": {
            "source outputs": 2 * buffers.source_bytes(sizes, shape),
            "forward pass": case.traced.forward.peak,
        },
        "gradients along the path": {**kept, "forward and backward pass": case.traced.step.peak},
        "sources against readers": {
            **kept,
            **buffers.contraction_buffers(sizes, shape, passes, case.traced.weights),
        },
    }


def _path_work(case: Case) -> Workload:
    traced, passes = case.traced, case.job.passes
    return _ends(case) + traced.step * passes + _contraction(case)


def _activations_phases(case: Case) -> Phases:
    outputs = buffers.module_outputs(case.sizes, case.job.shape)
    return {
        name: {**parts, "module outputs, clean and corrupted": outputs}
        for name, parts in _path_phases(case).items()
    }


def _activations_work(case: Case) -> Workload:
    groups = 1 + 2 * case.sizes.layout.n_layers
    return _ends(case) + (case.traced.step * case.job.passes + _contraction(case)) * groups


def _executor_phases(case: Case) -> Phases:
    return {"running circuits": buffers.executor_buffers(case.sizes, case.job.shape)}


def _evaluate_work(case: Case) -> Workload:
    return _ends(case) + (case.traced.forward + _sums_of_sources(case)) * _CURVE


def _exact_work(case: Case) -> Workload:
    layout, tokens, sizes = case.sizes.layout, case.job.shape.tokens, case.sizes
    # Of each run one reader is computed, from all the sources that it sees.
    widen = 2 * tokens * sizes.d_model * (1 + sizes.d_head)
    seen = int(layout.mask.sum(dim=0).square().sum())
    return _ends(case) + case.traced.forward * layout.n_edges + Workload(matmul=widen * seen)


def _flow_phases(case: Case) -> Phases:
    sizes, shape = case.sizes, case.job.shape
    kept = buffers.flow_buffers(sizes, shape)
    return {
        "clean run": {**kept, "forward pass": case.traced.forward.peak},
        "sources near readers": {**kept, **buffers.proximity_buffers(sizes, shape)},
    }


def _flow_work(case: Case) -> Workload:
    layout, sizes, tokens = case.sizes.layout, case.sizes, case.job.shape.tokens
    widen = 2 * tokens * layout.n_layers * layout.n_heads * sizes.d_head * sizes.d_model
    # q, k and v of a layer read the same. A source there: a difference, its size, their sum.
    columns = [layout.logits_column, *map(layout.mlp_column, range(layout.n_layers))]
    columns += [layout.attention_columns(layer).start for layer in range(layout.n_layers)]
    pairs = sum(len(layout.visible(column)) for column in columns)
    moved = 6 * _FLOAT * tokens * pairs * sizes.d_model
    return _ends(case) + Workload(matmul=widen, moved=moved)


def _random_phases(case: Case) -> Phases:
    return {"clean and corrupted runs": {"forward pass": case.traced.forward.peak}}


def _diff_phases(case: Case) -> Phases:
    sizes, shape = case.sizes, case.job.shape
    kept = buffers.diff_buffers(sizes, shape, eager=case.traced.eager)
    return {
        "two runs": {**kept, "forward pass": case.traced.forward.peak},
        "layers side by side": {**kept, **buffers.distribution_buffers(sizes, shape)},
    }


def _diff_work(case: Case) -> Workload:
    sizes, shape = case.sizes, case.job.shape
    pattern = shape.batch * sizes.layout.n_layers * sizes.layout.n_heads * shape.length**2 // 2
    return case.traced.forward * 2 + Workload(
        matmul=2 * 2 * pattern * sizes.d_head, moved=PATTERN_READS * _FLOAT * pattern
    )


def _training_phases(case: Case) -> Phases:
    step = case.traced.step.peak - _ADAM * case.traced.trained
    return {"training": {"passes, gradients and the update": step}}


def _training_work(case: Case) -> Workload:
    return case.traced.step * case.job.passes


def _ends(case: Case) -> Workload:
    """The shared start, and the clean and the corrupted run behind it."""
    twice = case.traced.forward * 2
    return twice if case.traced.prefix is None else twice + case.traced.prefix


def _contraction(case: Case) -> Workload:
    """The engine's last step, sources against readers, at all positions."""
    sizes, layout, d = case.sizes, case.sizes.layout, case.sizes.d_model
    sources, layers = layout.shape[0], layout.n_layers
    widen = layers * (layout.n_heads + sizes.ports) * sizes.d_head * d
    direct = layout.n_edges * d
    rank_one = case.job.passes * (layers * sources * d + layout.n_edges)
    return Workload(matmul=2 * case.job.shape.tokens * (widen + direct + rank_one))


def _sums_of_sources(case: Case) -> Workload:
    """What one run on a circuit computes beside the forward pass, at the mean size of a curve."""
    share = 0.09  # mean of the fractions, where none and all of the edges need no sums
    edges = round(share * case.sizes.layout.n_edges)
    return Workload(matmul=2 * case.job.shape.tokens * edges * case.sizes.d_model)


ACCOUNTS = {
    "eap-ig": CostModel(_path_phases, _path_work, 5, counted=True, splits=True),
    "eap-ig-activations": CostModel(
        _activations_phases, _activations_work, 5, counted=True, splits=True
    ),
    "eap": CostModel(_path_phases, _path_work, splits=True),
    "clean-corrupted": CostModel(_path_phases, _path_work, 2, splits=True),
    "exact": CostModel(_executor_phases, _exact_work, splits=True),
    "information-flow": CostModel(_flow_phases, _flow_work),
    "random": CostModel(_random_phases, _ends),
    "evaluate": CostModel(_executor_phases, _evaluate_work, splits=True),
    # Of two models: twice the queries, keys and streams.
    "diff": CostModel(_diff_phases, _diff_work, tokens=1024, models=2),
    "finetune": CostModel(_training_phases, _training_work, 300, counted=True, trains="weights"),
    "lora": CostModel(_training_phases, _training_work, 300, counted=True, trains="lora"),
}

METHODS = tuple(ACCOUNTS)
