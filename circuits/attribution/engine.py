"""Exact edge scores for the price of the model's own forward and backward passes.

Notation: x the residual stream that a reader reads, xhat and sigma its norm's output before the
weight gamma and scale, d = d_model; g the gradient of the metric at a q (or k, v) projection's
output, d_head wide; delta_u = clean - corrupted output of source u; k the points of the path.

1. Run clean and corrupted once; keep every source's delta, heads as z.
2. At each point k of the path, one forward and one backward pass. At each projection the backward
   pass hands over g, and
       dM/dx = Wt g / sigma - xhat c,   Wt = gamma * W (centred over d_model under LayerNorm),
       c = xhat . (Wt g) / (sigma d) = (q - q0) . g / (sigma d),
   with q the projection's output and q0 its value at xhat = 0. So only G = sum_k w_k g_k / sigma_k
   and the scalars c are kept. MLP and logits readers keep the gradient at the stream.
3. Once for several steps, not once per step:
       score(u -> v) = sum_pos delta_u . (Wt G_v) - sum_pos,k (delta_u . xhat_k) c_{k,v},
   one matrix product per layer with an inner dimension of positions x d_model, in chunks of
   positions so that memory stays flat.

No parameter needs a gradient, the only leaves are the interpolated embeddings, logits exist and the
last layer runs only where the metric reads them (no other position of it has a gradient), and
positions before the first difference are run once for all.
"""

from __future__ import annotations

import torch

from circuits.attribution.batch_scores import PathScores
from circuits.attribution.contraction import contract
from circuits.attribution.passes import Passes, Point, points_of
from circuits.attribution.quadrature import Rule
from circuits.attribution.reader_gradients import ReaderGradients
from circuits.metrics import Metric
from circuits.models import HookedModel, SourceStates
from circuits.planning.buffers import STEPS_AT_ONCE
from tasks.pairs import PairBatch


def edge_scores(model: HookedModel, batch: PairBatch, metric: Metric, rule: Rule) -> PathScores:
    """Scores of every edge for every example of a batch, along the path that `rule` samples."""
    clean, corrupted = SourceStates(model.view), SourceStates(model.view)
    passes = Passes(model, batch, metric, clean.record, corrupted.record)
    runs = [clean.subtract(corrupted)] if model.view.linear else [clean, corrupted]
    del clean, corrupted
    return integrated(passes, runs, points_of(rule))


def integrated(passes: Passes, runs: list[SourceStates], points: list[Point]) -> PathScores:
    """Scores of every edge from the gradients at some points.

    runs: what the sources wrote, clean less corrupted; or both, where the view is not linear.
    """
    view, batch = passes.model.view, passes.batch
    scores = torch.zeros(len(batch), *view.layout.shape, device=batch.clean.device)
    integral, variation = torch.zeros_like(passes.clean), torch.zeros_like(passes.clean)
    gradients = ReaderGradients(view, passes.starts, min(len(points), STEPS_AT_ONCE))
    for first in range(0, len(points), STEPS_AT_ONCE):
        gradients.reset()
        some = passes.take(points[first : first + STEPS_AT_ONCE], gradients.record)
        integral, variation = integral + some[0], variation + some[1]
        for stream, length in zip(view.streams, passes.lengths, strict=True):
            contract(scores, stream, runs, gradients, length, passes.model.weight_bytes)
    count = torch.full_like(batch.index, len(points))
    return PathScores(scores, passes.clean, passes.corrupted, integral, variation, count)
