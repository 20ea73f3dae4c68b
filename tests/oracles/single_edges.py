"""Every edge corrupted by itself in a whole run of its own, by the executor."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.metrics import Metric
from circuits.models import HookedModel
from tasks.pairs import PairBatch


def single_edges(
    model: HookedModel, batch: PairBatch, metric: Metric, every: int = 1
) -> Float[Tensor, "batch source reader"]:
    """The fall in the metric for each edge, or every so many of them; 0 for the others."""
    runner = CircuitRunner(model, batch)
    clean = metric(runner.clean, batch, runner.clean)
    found = torch.zeros(len(batch), *model.layout.shape)
    for row, column in model.layout.mask.nonzero()[::every].tolist():
        keep = model.layout.mask.clone()
        keep[row, column] = False
        logits = runner.logits(Circuit(model.layout, keep))
        found[:, row, column] = clean - metric(logits, batch, runner.clean)
    return found
