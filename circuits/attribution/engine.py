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
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.audit import Audit
from circuits.attribution.batch_scores import PathSamples
from circuits.attribution.contraction import add_edge_scores
from circuits.attribution.passes import Passes, Point, points_of
from circuits.attribution.quadrature import Rule
from circuits.attribution.reader_gradients import ReaderGradients
from circuits.metrics import Metric
from circuits.models import HookedModel, SourceActivations
from circuits.models.hooks import Hooks
from circuits.runtime.limits import AUDITED, STEPS_AT_ONCE
from tasks.pairs import PairBatch


def edge_samples(model: HookedModel, batch: PairBatch, metric: Metric, rule: Rule) -> PathSamples:
    """Scores of every edge for every example of a batch, along the path that `rule` samples."""
    clean, corrupted = SourceActivations(model.view), SourceActivations(model.view)
    passes = Passes(model, batch, metric, clean.record, corrupted.record)
    runs = [clean.subtract(corrupted)] if model.view.linear else [clean, corrupted]
    del clean, corrupted
    audit = Audit(passes, runs, None if rule.calibrated else AUDITED)
    whole = None
    if rule.calibrated:
        metrics, slopes = passes.run_points(
            points_of(rule), lambda hooks, *_: audit.record(hooks), audit.meet
        )
    else:
        whole, metrics, slopes = integrated(passes, runs, points_of(rule), audit)
    return PathSamples(
        rule,
        passes.clean,
        passes.corrupted,
        metrics,
        slopes,
        torch.stack(audit.values),
        audit.columns,
        audit.stands_for,
        whole,
    )


def integrated(
    passes: Passes, runs: list[SourceActivations], points: list[Point], audit: Audit | None = None
) -> tuple[
    Float[Tensor, "batch source reader"],
    Float[Tensor, "point batch"],
    Float[Tensor, "point batch"],
]:
    """Scores of every edge from the gradients at some points; the metric and its slope at each.

    runs: what the sources wrote, clean less corrupted; or both, where the view is not linear.
    audit: takes some of the scores at each point.
    """
    view, batch = passes.model.view, passes.batch
    scores = torch.zeros(len(batch), *view.layout.shape, device=batch.clean.device)
    gradients = ReaderGradients(view, passes.starts, min(len(points), STEPS_AT_ONCE))

    def attach(hooks: Hooks, step: int, weight: float) -> None:
        gradients.record(hooks, step, weight)
        if audit is not None:
            audit.record(hooks)

    seen = []
    for first in range(0, len(points), STEPS_AT_ONCE):
        gradients.reset()
        some = points[first : first + STEPS_AT_ONCE]
        seen.append(passes.run_points(some, attach, None if audit is None else audit.meet))
        for stream, length in zip(view.streams, passes.lengths, strict=True):
            add_edge_scores(scores, stream, runs, gradients, length, passes.model.weight_bytes)
    metric, slope = (torch.cat(parts) for parts in zip(*seen, strict=True))
    return scores, metric, slope
