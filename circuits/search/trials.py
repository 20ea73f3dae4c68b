"""The mean metric of circuits over a set of pairs, for searches that ask again and again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from circuits.intervention.ablation import Constants
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.runtime.batching import over_batches
from circuits.runtime.oom import out_of_memory
from tasks.pairs import PairBatch, PairSet


class Trials:
    """A model, its pairs and a metric, with the runs that all circuits share.

    full, empty: mean metric of the whole model and of no edge.
    runs: circuits run so far, times batches. layers_run: layers run for them.
    """

    def __init__(
        self,
        model: HookedModel,
        pairs: PairSet,
        metric: Metric,
        *,
        constants: Constants | None = None,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> None:
        """Run all pairs clean and corrupted; one that cannot be read is refused with its row."""
        model.validate(pairs)
        self.metric, self.pairs, self.runs = metric, pairs, 0
        self.runners = [
            runner
            for _, runner in over_batches(
                model,
                pairs,
                lambda hooked, batch: BatchedCircuitRunner(hooked, batch, constants),
                batch_size=batch_size,
                progress="reference runs" if progress else None,
            )
        ]
        self.full = self._mean([self._total(r, r.clean) for r in self.runners])
        self.empty = self._mean([self._total(r, r.corrupted) for r in self.runners])

    @property
    def layers_run(self) -> int:
        """Decoder layers run for circuits so far."""
        return sum(runner.layers_run for runner in self.runners)

    @property
    def width(self) -> int:
        """How many circuits fit in one pass."""
        return min(runner.width for runner in self.runners)

    def settle(self, mask: Bool[Tensor, "source reader"]) -> None:
        """Run a circuit that those asked for next differ from in few edges."""
        for runner in self.runners:
            runner.settle(mask)

    def __call__(self, masks: Sequence[Bool[Tensor, "source reader"]]) -> list[float]:
        """The mean metric of each circuit."""
        keep = torch.stack(list(masks))
        totals = [self._totals(runner, keep) for runner in self.runners]
        return [self._mean(list(column)) for column in zip(*totals, strict=True)]

    def _totals(
        self, runner: BatchedCircuitRunner, keep: Bool[Tensor, "copy source reader"]
    ) -> list[float]:
        """The metric of each copy, summed over one batch; what does not fit is halved."""
        try:
            logits = runner.logits(keep)
        except RuntimeError as error:
            if len(keep) == 1 or not out_of_memory(error):
                raise
            middle = len(keep) // 2
            return self._totals(runner, keep[:middle]) + self._totals(runner, keep[middle:])
        self.runs += len(keep)
        return [self._total(runner, run_logits) for run_logits in logits]

    def _total(self, runner: BatchedCircuitRunner, logits: Tensor) -> float:
        batch: PairBatch = runner.batch
        return float(self.metric(logits, batch, runner.clean).double().sum())

    def _mean(self, totals: list[float]) -> float:
        return sum(totals) / len(self.pairs)
