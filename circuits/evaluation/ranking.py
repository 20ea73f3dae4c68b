"""Which ranking to choose a circuit by, decided on pairs of its own.

Which of them is right differs from task to task. On SmolLM2 and indirect objects a circuit of 1 %
of the edges keeps f = .10 of the behaviour by absolute score and 1.15 by signed score when the
corrupted prompt has other names, and .83 and 2.52 when it has the names swapped; a mix of both
orders keeps .67 and 1.21. So both, and the mix, are tried at the size asked for and along a short
curve, on pairs that were neither scored on nor are judged on later.

1. The ranking whose f is nearest to 1 at the size asked for leads.
2. Of those whose distance from 1 there cannot be told from the leader's (the 95 % interval of the
   difference, over the pairs, holds 0), the one of the least area under |1 - f| (CMD) is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.measure import measure, shares
from circuits.graph import AnyScores, EdgeScores
from circuits.graph.findings import RankingChoice, Tried
from circuits.graph.levels import empty_like, select_size
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, Statistic, estimates
from tasks.pairs import PairSet

FRACTIONS = (0.01, 0.05, 0.2, 0.5, 1.0)
"""Where the short curve is measured, beside the size asked for."""
POSITIVES = (0.8,)
"""Shares of signed score that are tried as a mix."""


def choose_ranking(
    model: HookedModel,
    scores: AnyScores,
    pairs: PairSet,
    *,
    size: int,
    strategy: str | None = None,
    positives: Sequence[float] = POSITIVES,
    metric: str | None = None,
    ablation: str | MeanActivations = "corrupted",
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
    resume: Pieces | None = None,
) -> RankingChoice:
    """The ranking for a circuit of this size, by how faithful its circuits are on these pairs.

    pairs: neither scored on, which is refused, nor to be judged on; 16 or more.
    size: edges (nodes, neurons) before pruning. positives: shares of mixes to try, of edges only.
    ablation, resume: as for `measure`. Costs a run of each pair on up to six circuits a
    ranking.

    Raises UndefinedMetricError where clean and corrupted metric are equal.
    """
    _refuse_scored(scores, pairs)
    every = len(empty_like(scores).candidates)
    rankings: list[tuple[str, float | None]] = [("absolute", None), ("signed", None)]
    if isinstance(scores, EdgeScores):
        rankings += [("mixed", share) for share in positives]
    sizes = sorted({size, *(max(1, int(share * every)) for share in FRACTIONS)})
    lines = [
        [
            select_size(
                scores, one, strategy=strategy, ranking=ranking, positive_ratio=positive_ratio
            )
            for one in sizes
        ]
        for ranking, positive_ratio in rankings
    ]
    measured = measure(
        model,
        pairs,
        [circuit for line in lines for circuit in line],
        metric=metric,
        ablation=ablation,
        batch_size=batch_size,
        progress="choosing the ranking" if progress else None,
        resume=resume,
    )
    asked, axis = sizes.index(size), torch.tensor(sizes, dtype=torch.float64) / every
    found = estimates(measured.columns, _statistic(len(lines), asked, axis), seed=seed)
    n = len(lines)
    tried = tuple(
        Tried(
            ranking,
            positive_ratio,
            found[place],
            found[n + place],
            found[2 * n + place],
            len(lines[place][asked]),
        )
        for place, (ranking, positive_ratio) in enumerate(rankings)
    )
    differences = [found[3 * n + place * n : 3 * n + (place + 1) * n] for place in range(n)]
    chosen, why = _decide(tried, differences)
    return RankingChoice(
        chosen.ranking,
        chosen.positive_ratio,
        why,
        size,
        strategy,
        measured.metric,
        len(pairs),
        pairs.split,
        pairs.fingerprint,
        tried,
    )


def _decide(tried: Sequence[Tried], differences: list[list[Estimate]]) -> tuple[Tried, str]:
    """The one taken, and why. differences: [a][b] of the distance of a less that of b."""
    lead = min(range(len(tried)), key=lambda place: tried[place].distance.value)
    near = [
        place
        for place in range(len(tried))
        if place == lead or not differences[place][lead].low > 0
    ]
    taken = min(near, key=lambda place: (tried[place].cmd.value, place))
    if len(near) == 1:
        return tried[lead], "f is nearest to 1 at this size"
    others = " and ".join(tried[place].name for place in near if place != taken)
    return tried[taken], (
        f"f at this size does not tell it from {others}, and its area under |1 - f| is the least"
    )


def _statistic(lines: int, asked: int, axis: Float[Tensor, " point"]) -> Statistic:
    """From metric means to each line's f, distance and area, then all differences of distances."""

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        f = shares(means).unflatten(-1, (lines, len(axis)))
        here = f[..., asked]
        distance = (1 - here).abs()
        area = torch.trapezoid((1 - f).abs(), axis) if len(axis) > 1 else distance
        pairwise = (distance[..., :, None] - distance[..., None, :]).flatten(-2)
        return torch.cat([here, distance, area, pairwise], dim=-1)

    return figures


def _refuse_scored(scores: AnyScores, pairs: PairSet) -> None:
    shared = scores.provenance.scored_on(pairs)
    if shared:
        raise CircuitsError(
            f"choose_ranking: {shared} of the {len(pairs)} pairs were scored on; choose the "
            "ranking on others, or it will fit their noise"
        )
