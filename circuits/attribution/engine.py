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
   is kept of all points, and the scalars c and xhat of a few. MLP and logits readers keep the
   gradient at the stream.
3. score(u -> v) = sum_pos delta_u . (Wt G_v) - sum_k,pos (delta_u . xhat_k) w_k c_{k,v}: the
   second sum is taken behind every few passes, as many as there is room for (`meetings`), for what
   it costs is to widen what the sources wrote.
4. The first sum is taken once, behind all passes: one matrix product for several layers with an
   inner dimension of positions x d_model, in blocks of examples or positions so that memory stays
   flat (`contraction`). Of a few readers it is taken for each point, beside the second sum, which
   tells the error of the path (`audit`).

With `recompute`, layers keep only what goes into them until the backward pass runs them again
(`models/recompute.py`).

No parameter needs a gradient, the only leaves are the interpolated embeddings, logits exist and the
last layer runs only where the metric reads them (no other position of it has a gradient), and
positions before the first difference are run once for all.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.audit import audited
from circuits.attribution.batch_scores import PathSamples
from circuits.attribution.meetings import Meetings
from circuits.attribution.passes import Passes, Point, points_of
from circuits.attribution.quadrature import Rule
from circuits.metrics import Metric
from circuits.models import HookedModel, SourceActivations
from circuits.models.backward.rules import PLAIN, BackwardRules
from circuits.runtime.limits import AUDITED
from tasks.pairs import PairBatch


def edge_samples(
    model: HookedModel,
    batch: PairBatch,
    metric: Metric,
    rule: Rule,
    *,
    recompute: bool = False,
    rules: BackwardRules = PLAIN,
) -> PathSamples:
    """Scores of every edge for every example of a batch, along the path that `rule` samples.

    recompute: run layers again in backward passes, see `HookedModel.logits`. rules: that backward
    passes follow; where they freeze norms, c of step 2 is 0.
    """
    passes, runs = path_ends(model, batch, metric, recompute=recompute, rules=rules)
    single, stands_for = audited(model.view, None if rule.calibrated else AUDITED)
    stands_for = stands_for.to(batch.clean.device)
    columns = stands_for.nonzero()[:, 0]
    points = points_of(rule)
    meetings = Meetings(passes, runs, len(points), single, columns)
    metrics, slopes = passes.run_points(points, meetings.record, meetings.after_a_pass)
    samples = meetings.of_each_pass()
    weighted_sum = None
    if not rule.calibrated:
        weighted_sum = meetings.of_all()
        weights = samples.new_tensor(rule.weights)
        weighted_sum[..., columns] = torch.einsum("k,kb...->b...", weights, samples)
    return PathSamples(
        rule,
        passes.clean,
        passes.corrupted,
        metrics,
        slopes,
        samples,
        columns,
        stands_for,
        weighted_sum,
    )


def path_ends(
    model: HookedModel,
    batch: PairBatch,
    metric: Metric,
    *,
    recompute: bool = False,
    rules: BackwardRules = PLAIN,
) -> tuple[Passes, list[SourceActivations]]:
    """The passes of a batch, and what the sources wrote: clean less corrupted, or both where the
    view is not linear.
    """
    clean, corrupted = SourceActivations(model.view), SourceActivations(model.view)
    records = (clean.record, corrupted.record)
    passes = Passes(model, batch, metric, records, recompute=recompute, rules=rules)
    return passes, [clean.subtract(corrupted)] if model.view.linear else [clean, corrupted]


def integrated(
    passes: Passes, runs: list[SourceActivations], points: list[Point]
) -> Float[Tensor, "batch source reader"]:
    """Scores of every edge from the gradients at some points.

    runs: what the sources wrote, clean less corrupted; or both, where the view is not linear.
    """
    meetings = Meetings(passes, runs, len(points))
    passes.run_points(points, meetings.record, meetings.after_a_pass)
    return meetings.of_all()
