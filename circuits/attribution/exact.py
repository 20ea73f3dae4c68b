"""Exact edge patching: corrupt each edge alone and look at the metric.

Score of an edge = metric of the clean run - metric with this one edge corrupted, everything else
live (`circuits.intervention.Executor` on the whole graph without the edge). It is what the gradient
methods estimate to first order. Positive: the edge supports the behaviour; units are the metric's.

Source: path patching of single edges (Goldowsky-Dill et al. 2023, "Localizing Model Behavior with
Path Patching"); `exact` in the EAP-IG repository. Cost: one forward pass for each edge and batch,
32,491 of them for GPT-2 small, so large requests are refused unless forced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from tqdm.auto import tqdm

from circuits.attribution.batch_scores import BatchScores
from circuits.errors import CircuitsError
from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.planning.costs import exact_work, executor_phases
from circuits.planning.jobs import CostModel
from tasks.pairs import PairBatch, PairSet

LIMIT = 100_000
"""Most edges x examples that are run without `force`."""


@dataclass(frozen=True)
class Exact:
    """force: run however long it takes."""

    name: ClassVar[str] = "exact"
    cost: ClassVar[CostModel] = CostModel(
        "exact",
        "each edge corrupted alone, for small models",
        executor_phases,
        exact_work,
        splits=True,
    )
    force: bool = False

    def validate(self, model: HookedModel, pairs: PairSet, _: Metric) -> None:
        """Refuse what would take very long; any metric will do."""
        edges = model.layout.n_edges
        if edges * len(pairs) > LIMIT and not self.force:
            raise CircuitsError(
                f"exact runs the model once for each of {edges:,} edges on each of {len(pairs):,} "
                f"examples, {edges * len(pairs):,} runs; above {LIMIT:,} it must be forced "
                "(force=True, --force). Take fewer examples, or eap-ig, which estimates the same"
            )

    def scores(
        self, model: HookedModel, batch: PairBatch, metric: Metric, progress: bool = False
    ) -> BatchScores:
        """The fall in the metric when each edge alone is corrupted, for every example."""
        layout = model.layout
        executor = CircuitRunner(model, batch)
        clean = metric(executor.clean, batch, executor.clean)
        corrupted = metric(executor.corrupted, batch, executor.clean)
        scores = torch.zeros(len(batch), *layout.shape, device=model.device)
        edges = layout.mask.nonzero().tolist()
        bar = tqdm(edges, desc="corrupting edges", unit="edge", leave=False, disable=not progress)
        for row, column in bar:
            mask = layout.mask.clone()
            mask[row, column] = False
            logits = executor.logits(Circuit(layout, mask))
            scores[:, row, column] = clean - metric(logits, batch, executor.clean)
        return BatchScores(scores, clean, corrupted)
