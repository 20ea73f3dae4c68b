"""Which ranking to choose a circuit by, decided on pairs of its own.

Which of them is right differs from task to task. On SmolLM2 and indirect objects a circuit of 1 %
of the edges keeps f = .10 of the behaviour by absolute score and 1.15 by signed score when the
corrupted prompt has other names, and .83 and 2.52 when it has the names swapped; a mix of both
orders keeps .67 and 1.21. Of nodes a tenth by absolute score can keep nothing (docs/benchmarks.md).
So both, and the mix, are tried at the size asked for and along a short curve, on pairs that were
neither scored on nor are judged on later. `judged_lines.py` says how one is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from circuits.evaluation.judged_lines import judge_lines, line_sizes, refuse_scored
from circuits.graph import AnyScores
from circuits.graph.findings import RankingChoice, RankingTrial
from circuits.graph.levels import empty_like, select_size
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.options.choices import Ablation, Count, PositiveRatio, Ranking, Strategy
from circuits.options.declared import Options
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from tasks.pairs import PairSet


@dataclass(frozen=True)
class RankingTrials(Options):
    """Which circuits are tried.

    Attributes:
        size: Edges (nodes, neurons) of the circuit asked for, before pruning.
        strategy: How a ranking becomes an order (default: widest-path; for nodes and neurons top-n,
            the only one there is).
        positive_ratios: Shares of signed score that are tried as a mix.
    """

    size: Count
    strategy: Strategy | None = None
    positive_ratios: tuple[PositiveRatio, ...] = (0.8,)


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
    refuse_scored(scores, pairs, "choose_ranking: choose the ranking")
    rankings: list[tuple[Ranking, float | None]] = [("absolute", None), ("signed", None)]
    rankings += [("mixed", ratio) for ratio in trials.positive_ratios]
    lines = [
        [
            select_size(
                scores,
                size,
                strategy=trials.strategy,
                ranking=ranking,
                positive_ratio=positive_ratio,
            )
            for size in line_sizes(trials.size, len(empty_like(scores).candidates))
        ]
        for ranking, positive_ratio in rankings
    ]
    judged = judge_lines(
        model,
        pairs,
        lines,
        trials.size,
        metric=metric,
        ablation=ablation,
        options=options,
        resume=resume,
    )
    ranking_trials = tuple(
        RankingTrial(ranking=ranking, positive_ratio=positive_ratio, **vars(line))
        for (ranking, positive_ratio), line in zip(rankings, judged.lines, strict=True)
    )
    best = ranking_trials[judged.taken]
    return RankingChoice(
        ranking=best.ranking,
        positive_ratio=best.positive_ratio,
        not_told_apart=tuple(ranking_trials[index].name for index in judged.near),
        size=trials.size,
        strategy=trials.strategy,
        metric=judged.metric,
        n=len(pairs),
        split=pairs.split,
        fingerprint=pairs.fingerprint,
        trials=ranking_trials,
    )
