"""The runs that gradient methods are made of: clean, corrupted, and points of the path between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.quadrature import Rule
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.models.backward.rules import PLAIN, BackwardRules
from circuits.models.hooks import Hooks
from circuits.runtime.heap import given_back_from
from tasks.pairs import PairBatch

Attach = Callable[[Hooks], None]

_LEAST_APART = 2**20  # bytes, below which pages of its own cost a tensor more than they save
_TOKENS_AT_ONCE = 512  # a processor is busier with as many than with half, and no more with twice


@dataclass(frozen=True)
class Point:
    """One forward and backward pass.

    node: where on the path the embedding is; 0 corrupted, 1 clean; or of each example. edit: hooks
        that change the run.
    """

    node: float | Float[Tensor, " batch"]
    weight: float
    edit: Attach | None = None


def points_of(rule: Rule) -> list[Point]:
    """The points of a quadrature rule."""
    return [
        Point(node if rule.shifts is None else node + rule.shifts, weight)
        for node, weight in zip(rule.nodes, rule.weights, strict=True)
    ]


class Passes:
    """All runs of one batch.

    batch, prefix: the batch behind what its prompts share, and that. reference: the clean logits.
    clean, corrupted: the metric. starts, changes: per stream, the corrupted embedding and what
    leads from it to the clean one.
    """

    def __init__(
        self,
        model: HookedModel,
        batch: PairBatch,
        metric: Metric,
        ends: tuple[Attach, Attach],
        *,
        recompute: bool = False,
        rules: BackwardRules = PLAIN,
    ) -> None:
        """Run clean and corrupted once, without gradients; `ends` put hooks in place for each.

        recompute: run layers again in backward passes, see `HookedModel.logits`. rules: that
        backward passes follow.
        """
        self.model, self.metric, self.recompute, self.rules = model, metric, recompute, rules
        self._logits = partial(model.logits, last_layer_at_answers=True)
        self.batch, self.prefix = model.share_prefix(batch)
        with torch.no_grad():
            endpoints = self._endpoints(ends)
        (self.reference, inputs), (corrupted, self.starts) = endpoints
        self.clean = metric(self.reference, self.batch, self.reference)
        self.corrupted = metric(corrupted, self.batch, self.reference)
        self.changes = [end - start for end, start in zip(inputs, self.starts, strict=True)]

    @property
    def lengths(self) -> tuple[Tensor, ...]:
        """Per stream, each example's positions that are no padding."""
        return self.model.model_inputs(self.batch.clean, self.batch, self.prefix).lengths

    def _endpoints(
        self, attach: tuple[Attach, Attach]
    ) -> list[tuple[Float[Tensor, "read vocab"], list[Float[Tensor, "batch _ d_model"]]]]:
        """Logits of both ends and what entered the streams; in one run where that is short."""
        tokens = (self.batch.clean, self.batch.corrupted)
        inputs: tuple[list[Tensor], list[Tensor]] = ([], [])
        if 2 * tokens[0].numel() > _TOKENS_AT_ONCE:
            logits = []
            for ids, seen, put in zip(tokens, inputs, attach, strict=True):
                hooks = Hooks()
                self._watch(hooks, seen, put)
                logits.append(self._logits(ids, self.batch, hooks, self.prefix))
        else:
            hooks = Hooks()
            for part, (seen, put) in enumerate(zip(inputs, attach, strict=True)):
                self._watch(hooks.for_part(part, 2), seen, put)
            prefix = None if self.prefix is None else self.prefix.repeat(2)
            both = self._logits(torch.cat(tokens), self.batch.repeat(2), hooks, prefix)
            logits = list(both.chunk(2))
        return list(zip(logits, inputs, strict=True))

    def _watch(self, hooks: Hooks, inputs: list[Tensor], attach: Attach) -> None:
        for stream in self.model.view.streams:
            hooks.before(stream.entry, lambda x: inputs.append(x.detach()))
        attach(hooks)

    def run_points(
        self,
        points: Sequence[Point],
        attach: Callable[[Hooks, float], None],
        after: Callable[[], object],
    ) -> tuple[Float[Tensor, "point batch"], Float[Tensor, "point batch"]]:
        """Run all points; `attach` puts in place what watches the backward pass of each, `after` is
        called behind it.

        Returns the metric at each point and its derivative along the path, for each example.
        """
        samples = []
        # What layers make and give back again and again is larger than what they keep, and would
        # leave the heap twice as large as all that lives.
        stream = max(start.numel() * start.element_size() for start in self.starts)
        apart = given_back_from(max(_LEAST_APART, 2 * stream)) if self.recompute else nullcontext()
        with apart:
            for point in points:
                hooks = Hooks()
                if point.edit is not None:
                    point.edit(hooks)
                watch = partial(attach, hooks, point.weight)
                samples.append(self._slope(point.node, hooks, watch))
                after()
        metric, slope = (torch.stack(values) for values in zip(*samples, strict=True))
        return metric, slope

    def _slope(
        self, node: float | Float[Tensor, " batch"], hooks: Hooks, attach: Callable[[], None]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        leaves = [
            _between(start, change, node).requires_grad_()
            for start, change in zip(self.starts, self.changes, strict=True)
        ]
        for stream, leaf in zip(self.model.view.streams, leaves, strict=True):
            hooks.before(stream.entry, partial(_instead, leaf))
        attach()
        with self.rules.followed(self.model, hooks), torch.enable_grad():
            logits = self._logits(
                self.batch.clean, self.batch, hooks, self.prefix, recompute=self.recompute
            )
            metric = self.metric(logits, self.batch, self.reference)
            gradients = torch.autograd.grad(metric.sum(), leaves, allow_unused=True)
        slope = torch.zeros_like(self.clean)
        for gradient, change in zip(gradients, self.changes, strict=True):
            if gradient is not None:
                slope += (gradient.float() * change).flatten(1).sum(dim=1)
        return metric.detach(), slope


def _between(start: Tensor, change: Tensor, node: float | Tensor) -> Tensor:
    if isinstance(node, Tensor):
        return torch.addcmul(start, change, node.to(start.dtype)[:, None, None])
    return torch.add(start, change, alpha=node)


def _instead(leaf: Tensor, _: Tensor) -> Tensor:
    return leaf
