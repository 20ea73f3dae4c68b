"""Exact edge patching: corrupt each edge alone and look at the metric.

Score of an edge = metric of the clean run - metric with this one edge corrupted, everything else
live (`single_edges`): what the gradient methods estimate to first order. Positive: the edge
supports the behaviour; units are the metric's. Of chosen edges, `patch_edges` has the same.

Source: path patching of single edges (Goldowsky-Dill et al. 2023, "Localizing Model Behavior with
Path Patching"); `exact` in the EAP-IG repository. Cost: for each edge and batch the layers from the
edge's reader on, about a third of a forward pass, and GPT-2 small has 32,491 edges; so large
requests are refused unless forced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from tqdm.auto import tqdm

from circuits.attribution.batch_scores import BatchScores
from circuits.attribution.single_edges import EdgeIndex, single_edge_effects
from circuits.errors import CircuitsError
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.planning.costs import exact_phases, exact_work
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
        exact_phases,
        exact_work,
        splits=True,
    )
    force: bool = False

    def validate(self, model: HookedModel, pairs: PairSet, _: Metric) -> None:
        """Refuse what would take very long; any metric will do."""
        edges = model.layout.n_edges
        if edges * len(pairs) > LIMIT and not self.force:
            raise CircuitsError(
                f"exact corrupts each of {edges:,} edges on each of {len(pairs):,} "
                f"examples, {edges * len(pairs):,} runs; above {LIMIT:,} it must be forced "
                "(force=True, --force). Take fewer examples, or eap-ig, which estimates the same"
            )

    def scores(
        self, model: HookedModel, batch: PairBatch, metric: Metric, progress: bool = False
    ) -> BatchScores:
        """The fall in the metric when each edge alone is corrupted, for every example."""
        layout = model.layout
        runner = BatchedCircuitRunner(model, batch, alike=False)
        scores = torch.zeros(len(batch), *layout.shape, device=model.device)
        edges: list[EdgeIndex] = [(row, column) for row, column in layout.mask.nonzero().tolist()]
        with tqdm(
            total=len(edges),
            desc="corrupting edges",
            unit="edge",
            disable=not progress,
            leave=False,
        ) as bar:
            for some, effects in single_edge_effects(runner, metric, edges):
                rows, columns = zip(*(edges[index] for index in some), strict=True)
                scores[:, rows, columns] = effects
                bar.update(len(some))
        clean, corrupted = (
            metric(logits, batch, runner.clean) for logits in (runner.clean, runner.corrupted)
        )
        return BatchScores(scores, clean, corrupted)
