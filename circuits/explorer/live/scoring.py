"""Edge scores in steps: EAP-IG, a point of the path at a time, so that a click need not wait."""

from __future__ import annotations

from collections.abc import Generator

import torch

from circuits.attribution.eap_ig import EAPIG
from circuits.attribution.engine import integrated, path_ends
from circuits.attribution.passes import points_of
from circuits.graph import EdgeScores, Provenance
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.provenance import describe_model, describe_pairs, versions
from tasks.pairs import PairBatch, PairSet


def scored(
    model: HookedModel,
    pairs: PairSet,
    batches: list[PairBatch],
    metric: Metric,
    steps: int,
) -> Generator[float, None, EdgeScores]:
    """Scores of every edge, those of `circuits.attribute(model, pairs, "eap-ig", steps=steps)`.

    Args:
        model: whose edges are scored.
        pairs: the prompts.
        batches: the same on the model's device, in batches.
        metric: what is differentiated.
        steps: points of the path.

    Yields:
        The share of the work that is done.

    Returns:
        The scores, example by example.

    Raises:
        CircuitsError: where the metric has no gradient.
    """
    method = EAPIG(steps=steps)
    method.validate(model, pairs, metric)
    points = points_of(method.quadrature_rule)
    per_example = torch.zeros(len(pairs), *model.layout.shape)
    run_metrics = torch.zeros(2, len(pairs), dtype=torch.float64)
    n_done, n_total = 0, len(batches) * len(points)
    for batch in batches:
        passes, runs = path_ends(model, batch, metric)
        rows = batch.index.cpu()
        run_metrics[:, rows] = torch.stack([passes.clean, passes.corrupted]).double().cpu()
        for point in points:
            per_example[rows] += integrated(passes, runs, [point]).float().cpu()
            n_done += 1
            yield n_done / n_total
    clean, corrupted = run_metrics.mean(dim=1).tolist()
    provenance = Provenance(
        settings={"steps": steps, "quadrature": method.quadrature},
        metric=metric.name,
        metric_clean=clean,
        metric_corrupted=corrupted,
        data=describe_pairs(pairs),
        pairs=tuple(pairs.fingerprints),
        model=describe_model(model),
        versions=versions(),
    )
    return EdgeScores(per_example.mean(dim=0), model.layout, method.name, provenance, per_example)
