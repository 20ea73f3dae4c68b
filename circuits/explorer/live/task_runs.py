"""The task's pairs beside the typed one: how faithful a circuit is on them, with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.evaluation.measure import Measured, faithfulness_from_means
from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.metrics import metric_for
from circuits.models import HookedModel
from circuits.runtime.batching import usual_batch_size
from circuits.runtime.limits import LIVE_TASK_BYTES
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairBatch, PairSet


@dataclass
class TaskRuns:
    """A model and its task's pairs; each batch's clean and corrupted runs are kept, or made again.

    pairs: prompts that circuits are measured on. room: bytes that may still be kept of their runs;
    batches that would take more make theirs again for every circuit.
    """

    model: HookedModel
    pairs: PairSet
    room: int = LIVE_TASK_BYTES
    _runners: dict[int, CircuitRunner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.validate(self.pairs)
        self.judge = metric_for(self.pairs)
        longest = max(len(pair) for pair in self.pairs)
        size = usual_batch_size(longest, len(self.pairs), self.model.device)
        self.batches: list[PairBatch] = [
            batch.to(self.model.device)
            for batch in self.pairs.batches(size, apart=self.model.longrope_window)
        ]

    def faithfulness(self, circuit: Circuit) -> Iterator[tuple[int, Estimate | None]]:
        """How many pairs are done, batch by batch; behind the last, f with its 95 % interval.

        Raises:
            UndefinedMetricError: where the metric is the same on clean and corrupted prompts.
        """
        values = torch.zeros(len(self.pairs), 3, dtype=torch.float64)
        n_done = 0
        for index, batch in enumerate(self.batches):
            values[batch.index.cpu()] = self._columns(index, batch, circuit).double().cpu()
            n_done += len(batch)
            if n_done < len(self.pairs):
                yield n_done, None
        measured = Measured(self.judge.name, values[:, 0], values[:, 1], values[:, 2:])
        (f,) = estimates(measured.columns, faithfulness_from_means)
        yield n_done, f

    def _columns(
        self, index: int, batch: PairBatch, circuit: Circuit
    ) -> Float[Tensor, "batch column"]:
        """The metric of the clean, the corrupted and the circuit's run."""
        runner = self._runners.get(index)
        if runner is None:
            runner = CircuitRunner(self.model, batch)
            if (n_bytes := runner.n_bytes) <= self.room:
                self._runners[index] = runner
                self.room -= n_bytes
        runs = (runner.clean, runner.corrupted, runner.logits(circuit))
        return torch.stack([self.judge(logits, batch, runner.clean) for logits in runs], dim=1)
