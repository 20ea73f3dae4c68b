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
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.measure import faithfulness_from_means, measure
from circuits.graph import AnyScores, EdgeScores
from circuits.graph.findings import RankingChoice, RankingTrial
from circuits.graph.levels import empty_like, select_size
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.options.choices import Ablation, Count, Ranking, Share, Strategy
from circuits.options.declared import Options
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, Statistic, estimates
from tasks.pairs import PairSet

FRACTIONS = (0.01, 0.05, 0.2, 0.5, 1.0)
"""Where the short curve is measured, beside the size asked for."""


@dataclass(frozen=True)
class RankingTrials(Options):
    """Which circuits are tried.

    Attributes:
        size: Edges (nodes, neurons) of the circuit asked for, before pruning.
        strategy: How a ranking becomes an order (default: widest-path; for nodes and neurons top-n,
            the only one there is).
        positive_ratios: Shares of signed score that are tried as a mix, of edges only.
    """

    size: Count
    strategy: Strategy | None = None
    positive_ratios: tuple[Share, ...] = (0.8,)


def choose_ranking(
    model: HookedModel,
    scores: AnyScores,
    pairs: PairSet,
    trials: RankingTrials,
    *,
    metric: str | None = None,
    ablation: Ablation | MeanActivations = "corrupted",
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> RankingChoice:
    """Find the ranking whose circuits of one size are most faithful on these pairs.

    Costs a run of each pair on up to six circuits a ranking.

    Args:
        model: the model that was scored.
        scores: of edges, nodes or neurons.
        pairs: prompt pairs neither scored on, which is refused, nor to be judged on; 16 or more.
        trials: the size, and what is tried.
        metric: its name; None takes the pairs' own.
        ablation: what stands in for what is left out, as for `measure`.
        options: batches, seed, progress; the seed is of the bootstrap.
        resume: keeps what was measured until the whole is done.

    Returns:
        The ranking taken, and every one tried, with intervals over the pairs.

    Raises:
        UndefinedMetricError: where clean and corrupted metric are equal.
        CircuitsError: where pairs were scored on.
    """
    options = options or RunOptions()
    _refuse_scored(scores, pairs)
    every = len(empty_like(scores).candidates)
    rankings: list[tuple[Ranking, float | None]] = [("absolute", None), ("signed", None)]
    if isinstance(scores, EdgeScores):
        rankings += [("mixed", ratio) for ratio in trials.positive_ratios]
    sizes = sorted({trials.size, *(max(1, int(fraction * every)) for fraction in FRACTIONS)})
    lines = [
        [
            select_size(
                scores,
                size,
                strategy=trials.strategy,
                ranking=ranking,
                positive_ratio=positive_ratio,
            )
            for size in sizes
        ]
        for ranking, positive_ratio in rankings
    ]
    measured = measure(
        model,
        pairs,
        [circuit for line in lines for circuit in line],
        metric=metric,
        ablation=ablation,
        options=options,
        progress="choosing the ranking" if options.progress else None,
        resume=resume,
    )
    asked, axis = sizes.index(trials.size), torch.tensor(sizes, dtype=torch.float64) / every
    n = len(lines)
    figures = estimates(measured.columns, _statistic(n, asked, axis), seed=options.seed)
    tried = tuple(
        RankingTrial(
            ranking=ranking,
            positive_ratio=positive_ratio,
            f=figures[index],
            abs_gap=figures[n + index],
            area_abs_gap=figures[2 * n + index],
            n_kept=len(lines[index][asked]),
        )
        for index, (ranking, positive_ratio) in enumerate(rankings)
    )
    differences = [figures[(3 + index) * n : (4 + index) * n] for index in range(n)]
    taken, not_told_apart = _decide(tried, differences)
    return RankingChoice(
        ranking=taken.ranking,
        positive_ratio=taken.positive_ratio,
        not_told_apart=tuple(one.name for one in not_told_apart),
        size=trials.size,
        strategy=trials.strategy,
        metric=measured.metric,
        n=len(pairs),
        split=pairs.split,
        fingerprint=pairs.fingerprint,
        trials=tried,
    )


def _decide(
    trials: Sequence[RankingTrial], differences: list[list[Estimate]]
) -> tuple[RankingTrial, list[RankingTrial]]:
    """The one taken, and those that its |1 - f| is not told from.

    differences: [a][b] of |1 - f| of a less that of b.
    """
    lead = min(range(len(trials)), key=lambda index: trials[index].abs_gap.value)
    near = [
        index
        for index in range(len(trials))
        if index == lead or not differences[index][lead].low > 0
    ]
    taken = min(near, key=lambda index: (trials[index].area_abs_gap.value, index))
    return trials[taken], [trials[index] for index in near if index != taken]


def _statistic(lines: int, asked: int, axis: Float[Tensor, " point"]) -> Statistic:
    """From metric means to each line's f, |1 - f| and area, then all differences of |1 - f|."""

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        f = faithfulness_from_means(means)
        f = rearrange(f, "... (line point) -> ... line point", line=lines)
        here = f[..., asked]
        gap = (1 - here).abs()
        area = torch.trapezoid((1 - f).abs(), axis) if len(axis) > 1 else gap
        pairwise = (gap[..., :, None] - gap[..., None, :]).flatten(-2)
        return torch.cat([here, gap, area, pairwise], dim=-1)

    return figures


def _refuse_scored(scores: AnyScores, pairs: PairSet) -> None:
    shared = scores.provenance.scored_on(pairs)
    if shared:
        raise CircuitsError(
            f"choose_ranking: {shared} of the {len(pairs)} pairs were scored on; choose the "
            "ranking on others, or it will fit their noise"
        )
