"""Score every edge of a model on a set of prompt pairs."""

from __future__ import annotations

from dataclasses import dataclass

from circuits.attribution.batch_scores import BatchScores
from circuits.attribution.dataset_scores import (
    DatasetScores,
    GrowingPairs,
    Scoring,
    score_dataset,
)
from circuits.attribution.method import GradientMethod, Method
from circuits.attribution.registry import resolve
from circuits.graph import EdgeScores
from circuits.metrics import Metric
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.runtime.resume import PartialResults
from tasks.pairs import PairBatch, PairSet


def attribute(
    model: HookedModel,
    pairs: PairSet | GrowingPairs,
    method: str | Method = "eap-ig",
    *,
    metric: str | None = None,
    options: RunOptions | None = None,
    per_example: bool | None = None,
    resume: PartialResults | None = None,
    **settings: object,
) -> EdgeScores:
    """Score every edge: how much the metric falls, to first order, when the edge is corrupted.

    Nothing here is random: the same input on the same machine gives the same bytes.

    Args:
        model: the model whose edges are scored.
        pairs: clean and corrupted prompts; or `until_stable(...).over(pairs)`, to score the first
            of them only, as many as it takes.
        method: a name from `METHODS`, whose hyper-parameters follow as keywords (steps=5,
            quadrature="midpoint"), or a method object.
        metric: a name from `circuits.metrics`; None takes the pairs' own. Units of the scores.
        options: batch size and progress. A batch size of None is chosen by the planner
            (`planning.choose_batch_size`); a batch that does not fit after all is halved.
            `provenance.batch_size` holds the number.
        per_example: keep one matrix an example, which `compare` and intervals need. None keeps
            them up to 1 GiB, or with `resume` up to a quarter of what is free on its disk, and
            says so where they are left out.
        resume: keeps what is done so far in files; the same call goes on from it. Matrices of
            single examples are on disk from the start then, and never all in memory.
        **settings: hyper-parameters of the method.

    Returns:
        One score per edge. Methods on the path from corrupted to clean say in `provenance.error`
        how far to trust them.

    Raises:
        CircuitsError: for an unknown method, setting or metric, pairs that the model cannot read,
            and scores that are not finite.
    """
    scoring_method = resolve(method, settings)
    scoring = Scoring.of(model, pairs, scoring_method, metric, options, per_example, resume)

    def to_scores(dataset_scores: DatasetScores) -> EdgeScores:
        return EdgeScores(
            dataset_scores.mean,
            model.layout,
            scoring_method.name,
            dataset_scores.provenance,
            dataset_scores.per_example,
            dataset_scores.blocks,
        )

    work = _Scores(scoring_method, scoring.metric, scoring.options.progress, scoring.recompute)
    return to_scores(score_dataset(scoring, "edges", work, model.layout.shape, to_scores))


@dataclass(frozen=True)
class _Scores:
    """The work on a batch."""

    method: Method
    metric: Metric
    progress: bool
    recompute: bool

    def __call__(self, model: HookedModel, batch: PairBatch) -> BatchScores:
        arguments = (model, batch, self.metric, self.progress)
        if isinstance(self.method, GradientMethod):
            return self.method.scores(*arguments, recompute=self.recompute)
        return self.method.scores(*arguments)
