"""As many gradients as each example needs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch

from circuits.attribution.batch_scores import PathSamples, PathScores
from circuits.attribution.quadrature import LEVELS, Rule
from tasks.pairs import PairBatch

_log = logging.getLogger(__name__)

ScoreFunction = Callable[[PairBatch, Rule], PathSamples]
"""Scores of edges, or of nodes, at the points of a rule."""


def adaptive(score_at: ScoreFunction, batch: PairBatch, tolerance: float) -> PathScores:
    """Scores whose estimated error is at most `tolerance`.

    Each example takes as many gradients as it needs, 4, 7, 15, 31 or 63, none computed twice; what
    else is in the batch makes no difference. It is accepted when two rules on the same gradients
    agree, with and without calibrated weights. One that has not come down to the tolerance at the
    last level is named in a warning and returned as it is.
    """
    samples = score_at(batch, LEVELS[0])
    path_scores = samples.scores()
    open_ = torch.arange(len(path_scores.clean), device=path_scores.clean.device)
    for before, rule in pairwise(LEVELS):
        above = path_scores.error[open_] > tolerance
        if not above.any():
            return path_scores
        open_ = open_[above]
        example_mask = torch.zeros(len(path_scores.clean), dtype=torch.bool, device=open_.device)
        example_mask[open_] = True
        more = score_at(batch.select(example_mask), _others(rule, before))
        samples = samples.select(above).joined(more, rule)
        path_scores = _with(path_scores, open_, samples.scores())
    if (missed := path_scores.error > tolerance).any():
        _log.warning(
            "%s: estimated error %.1f %% after %d gradients, above the tolerance; "
            "%d such examples in this batch",
            batch.sources[int(missed.nonzero()[0])],
            100 * float(path_scores.error[missed][0]),
            int(path_scores.gradients.max()),
            int(missed.sum()),
        )
    return path_scores


def _others(rule: Rule, before: Rule) -> Rule:
    """The points that the level before lacks; their weights come with the joined samples."""
    sampled_nodes = {round(node, 9) for node in before.nodes}
    fresh = [
        point
        for point in zip(rule.nodes, rule.weights, strict=True)
        if round(point[0], 9) not in sampled_nodes
    ]
    nodes, weights = zip(*fresh, strict=True)
    return Rule(nodes, weights, calibrated=True)


def _with(path_scores: PathScores, where: torch.Tensor, better: PathScores) -> PathScores:
    scores, doubt, gradients = (
        old.index_copy(0, where, new)
        for old, new in (
            (path_scores.scores, better.scores),
            (path_scores.doubt, better.doubt),
            (path_scores.gradients, better.gradients),
        )
    )
    return replace(path_scores, scores=scores, doubt=doubt, gradients=gradients)
