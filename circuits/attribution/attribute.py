"""Score every edge of a model on a set of prompt pairs."""

from __future__ import annotations

from typing import Any

from circuits.attribution.dataset_scores import DatasetScores, Growth, score_dataset
from circuits.attribution.method import Method
from circuits.attribution.registry import resolve
from circuits.graph import EdgeScores
from circuits.metrics import metric_for
from circuits.models import HookedModel
from circuits.runtime.resume import PartialResults
from tasks.pairs import PairSet


def attribute(
    model: HookedModel,
    pairs: PairSet,
    method: str | Method = "eap-ig",
    *,
    metric: str | None = None,
    batch_size: int | None = None,
    per_example: bool = False,
    progress: bool = False,
    resume: PartialResults | None = None,
    growth: Growth | None = None,
    **settings: Any,
) -> EdgeScores:
    """Score every edge: how much the metric falls, to first order, when the edge is corrupted.

    method: a name from `METHODS`, whose hyper-parameters follow as keywords (steps=5,
        quadrature="midpoint"), or a method object.
    metric: a name from `circuits.metrics`; None takes the pairs' own. Units of the scores.
    batch_size: None takes what the memory plan says (`planning.choose_batch_size`), a batch that
        does not fit after all is halved. `provenance.batch_size` holds the number.
    per_example: keep one matrix an example, which `compare` and intervals need.
    unfinished: keeps what is done so far in a file; the same call goes on from it.
    growth: scores the first pairs only, as many as it says (`evaluation.until_stable`).

    Methods on the path from corrupted to clean say in `provenance.error` how far to trust them.

    Nothing here is random: the same input on the same machine gives the same bytes.
    """
    chosen = resolve(method, settings)
    measure = metric_for(pairs, metric)

    def made(found: DatasetScores) -> EdgeScores:
        return EdgeScores(
            found.mean,
            model.layout,
            chosen.name,
            found.provenance,
            found.per_example,
            found.blocks,
        )

    found = score_dataset(
        model,
        pairs,
        chosen,
        measure,
        lambda batch: chosen.scores(model, batch, measure, progress),
        model.layout.shape,
        made,
        batch_size=batch_size,
        per_example=per_example,
        progress=f"scoring edges ({chosen.name})" if progress else None,
        resume=resume,
        growth=growth,
    )
    return made(found)
