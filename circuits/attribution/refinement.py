"""As many gradients as each example needs."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from circuits.attribution.batch_scores import PathScores
from circuits.attribution.quadrature import REFINEMENTS, Rule
from tasks.pairs import PairBatch

_log = logging.getLogger(__name__)

Take = Callable[[PairBatch, Rule], PathScores]
"""Scores of edges, or of nodes, by a rule."""


def refined(take: Take, batch: PairBatch, tolerance: float) -> PathScores:
    """Scores whose estimated error is at most `tolerance`.

    Each example takes as many gradients as it needs, 3, 7, 13, 25, 49 or 97, none computed twice;
    what else is in the batch makes no difference. One that has not come down to the tolerance at
    the last refinement is named in a warning and returned as it is.
    """
    found = take(batch, REFINEMENTS[0])
    for rule in REFINEMENTS[1:]:
        rough = found.error > tolerance
        if not rough.any():
            return found
        more = take(batch.select(rough), rule)
        gradients = found.gradients.clone()
        gradients[rough] += more.gradients
        found = PathScores(
            _averaged(found.scores, rough, more.scores),
            found.clean,
            found.corrupted,
            _averaged(found.integral, rough, more.integral),
            _averaged(found.variation, rough, more.variation),
            gradients,
        )
    if (missed := found.error > tolerance).any():
        _log.warning(
            "%s: estimated error %.1f %% after %d gradients, above the tolerance; "
            "%d such examples in this batch",
            batch.sources[int(missed.nonzero()[0])],
            100 * float(found.error[missed][0]),
            int(found.gradients.max()),
            int(missed.sum()),
        )
    return found


def _averaged(before: Tensor, rough: Tensor, more: Tensor) -> Tensor:
    after = before.clone()
    after[rough] = torch.lerp(before[rough], more, 0.5)
    return after
