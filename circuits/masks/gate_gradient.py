"""The loss of runs with gates, batch by batch, and its gradient."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import UndefinedMetricError
from circuits.graph import AnyScores, NodeScores
from circuits.intervention import MeanActivations
from circuits.intervention.gated_runner import GatedRunner
from circuits.metrics import METRICS, Metric
from circuits.models import HookedModel
from circuits.options.masks import MaskConfig
from circuits.runtime.batching import over_batches
from tasks.pairs import PairBatch, PairSet

_KEPT_BYTES = 2**28
"""Runs without gates are kept for later epochs: so many bytes, or as many as the model has."""


class GateGradient:
    """How far runs with gates are from the whole model, on parts of a set of pairs.

    kl-divergence: from its distribution, in nats. metric: squared, from its value of the metric, as
    a share of what lies between the whole model and none of it, over all pairs.

    parts: the pairs, as many as make an update at a time.
    """

    def __init__(
        self,
        model: HookedModel,
        pairs: PairSet,
        scores: AnyScores,
        config: MaskConfig,
        metric: Metric,
        constants: MeanActivations | None,
        batch_size: int | None,
    ) -> None:
        """scores: say what gates are of. constants: stand in for what is shut; None takes the
        corrupted run.
        """
        self._model, self._metric, self._constants = model, metric, constants
        self._units = scores.units if isinstance(scores, NodeScores) else None
        batches = pairs.batches(config.pairs_per_step, apart=model.longrope_window)
        self.parts = [
            replace(pairs, pairs=tuple(pairs.pairs[index] for index in batch.index.tolist()))
            for batch in batches
        ]
        self._batch_size = batch_size or config.pairs_per_step
        self._room = max(_KEPT_BYTES, model.weight_bytes)
        self._kept: dict[tuple[int, ...], GatedRunner] = {}
        self._by_kl = config.objective == "kl-divergence"
        self._gap = 1.0 if self._by_kl else self._between(pairs)

    def of(self, part: int, gates: Float[Tensor, "*gate"]) -> tuple[float, Float[Tensor, "*gate"]]:
        """The mean loss over a part, and its gradient at the gates, on the CPU; what reaches
        constants that ask for a gradient is left with them.
        """
        pairs, loss, gradient = self.parts[part], 0.0, torch.zeros_like(gates)

        def work(model: HookedModel, batch: PairBatch) -> tuple[Tensor, Tensor]:
            key = (part, *batch.index.tolist())
            runner = self._kept.get(key) or self._runner(model, batch)
            values, gate_gradient = runner.gradient(
                gates,
                partial(self._loss, batch, runner.clean, len(pairs)),
                units=self._units,
                constants=self._constants,
            )
            if key not in self._kept and runner.n_bytes <= self._room:
                self._kept[key] = runner
                self._room -= runner.n_bytes
            return values, gate_gradient

        for _, (values, batch_gradient) in over_batches(
            self._model, pairs, work, batch_size=self._batch_size
        ):
            loss += float(values.sum())
            gradient += batch_gradient.cpu()
        return loss, gradient

    def _loss(
        self,
        batch: PairBatch,
        whole_logits: Float[Tensor, "read vocab"],
        n: int,
        logits: Float[Tensor, "read vocab"],
    ) -> Float[Tensor, " batch"]:
        """whole_logits: logits of the whole model. n: pairs of the part."""
        if self._by_kl:
            return -METRICS["kl-divergence"](logits, batch, whole_logits) / n
        off = self._metric(logits, batch, whole_logits) - self._metric(
            whole_logits, batch, whole_logits
        )
        return (off / self._gap).square() / n

    def _runner(self, model: HookedModel, batch: PairBatch) -> GatedRunner:
        constants = self._constants
        return GatedRunner(model, batch, None if constants is None else constants.states)

    def _between(self, pairs: PairSet) -> float:
        """The mean metric of the whole model less that of none of it."""

        def ends(model: HookedModel, batch: PairBatch) -> Float[Tensor, " batch"]:
            run = self._runner(model, batch)
            full, empty = (
                self._metric(logits, batch, run.clean) for logits in (run.clean, run.corrupted)
            )
            return full - empty

        gaps = over_batches(self._model, pairs, ends, batch_size=self._batch_size)
        gap = sum(float(values.sum()) for _, values in gaps) / len(pairs)
        if abs(gap) <= 1e-6:
            raise UndefinedMetricError(
                f"no mask can be learned by {self._metric.name}: it is the same for the whole "
                "model and for none of it; take the objective kl-divergence"
            )
        return gap
