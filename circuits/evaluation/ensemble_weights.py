"""The weights of an ensemble's members, chosen on pairs of their own.

Tried are each member alone, all alike, and random weights; each by absolute and by signed score.
The ensemble that is taken may so be one member: then the others help nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, ClassVar

import numpy as np
from pydantic import PlainSerializer

from circuits.evaluation.judged_lines import judge_lines, line_sizes, refuse_scored
from circuits.graph import AnyScores
from circuits.graph.ensemble import ensemble
from circuits.graph.levels import empty_like, select_size
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.options.choices import Ablation, Ranking
from circuits.options.ensemble import EnsembleConfig, WeightTrials
from circuits.options.run import RunOptions
from circuits.runtime.result_file import Record, ResultFile
from circuits.statistics.estimate import Estimate
from tasks.pairs import PairSet

_RANKINGS: tuple[Ranking, ...] = ("absolute", "signed")


class WeightTrial(Record):
    """Weights on the pairs of the choice; the other fields are as in `RankingTrial`."""

    weights: tuple[float, ...]
    ranking: Ranking
    f: Estimate
    abs_gap: Estimate
    area_abs_gap: Estimate
    n_kept: int


class EnsembleWeights(ResultFile):
    """`ensemble.json`: the weights taken, and all that were tried.

    members: their methods, in the order of the weights. weights: of each, adding up to 1.
    ranking: that goes with them. not_told_apart: places among `trials` whose |1 - f| at this size
        could not be told from that of the one taken, which then has the least area under |1 - f|.
    config: how members are put together. size: asked for. metric: its name.
    n, split, fingerprint, pairs: of the pairs of the choice.
    """

    KIND: ClassVar[str] = "ensemble-weights"

    members: tuple[str, ...]
    weights: tuple[float, ...]
    ranking: Ranking
    not_told_apart: tuple[int, ...]
    config: Annotated[EnsembleConfig, PlainSerializer(asdict, when_used="json")]
    size: int
    metric: str
    n: int
    split: str
    fingerprint: str
    pairs: tuple[str, ...]
    trials: tuple[WeightTrial, ...]

    def scores(self, members: Sequence[AnyScores]) -> AnyScores:
        """The ensemble by these weights.

        Args:
            members: those that the weights were chosen for, in their order.

        Returns:
            Its scores, which count the pairs of the choice among those that they were made from.
        """
        ensemble_scores = ensemble(members, self.weights, self.config)
        scored = ensemble_scores.provenance.pairs or ()
        return ensemble_scores.noting(pairs=tuple(dict.fromkeys([*scored, *self.pairs])))


def choose_weights(
    model: HookedModel,
    members: Sequence[AnyScores],
    pairs: PairSet,
    trials: WeightTrials,
    config: EnsembleConfig | None = None,
    *,
    metric: str | None = None,
    ablation: Ablation | MeanActivations = "corrupted",
    options: RunOptions | None = None,
) -> EnsembleWeights:
    """Find the weights whose circuits of one size are most faithful on these pairs.

    Costs a run of each pair on up to six circuits for each weights and ranking.

    Args:
        model: the model that was scored.
        members: two or more scores of the same edges, nodes or neurons.
        pairs: prompt pairs that no member was made from, nor to be judged on; 16 or more.
        trials: the size, and how many weights are tried.
        config: how members are put together.
        metric: its name; None takes the pairs' own.
        ablation: what stands in for what is left out, as for `measure`.
        options: batches, seed, progress; the seed is of the weights and of the bootstrap.

    Returns:
        The weights taken and every one tried, with intervals over the pairs.

    Raises:
        UndefinedMetricError: where clean and corrupted metric are equal.
        CircuitsError: where pairs were scored on, and as `ensemble` does.
    """
    options, config = options or RunOptions(), config or EnsembleConfig()
    for member in members:
        refuse_scored(member, pairs, "choose_weights: choose the weights")
    grid = [(weights, ranking) for weights in _drawn(len(members), trials, config, options.seed)
             for ranking in _RANKINGS]  # fmt: skip
    lines = []
    for weights, ranking in grid:
        scores = ensemble(members, weights, config)
        sizes = line_sizes(trials.size, len(empty_like(scores).candidates))
        lines.append(
            [select_size(scores, size, strategy=trials.strategy, ranking=ranking) for size in sizes]
        )
    judged = judge_lines(
        model,
        pairs,
        lines,
        trials.size,
        metric=metric,
        ablation=ablation,
        options=options,
        resume=None,
    )
    weights, ranking = grid[judged.taken]
    return EnsembleWeights(
        members=tuple(m.method for m in members),
        weights=weights,
        ranking=ranking,
        not_told_apart=judged.near,
        config=config,
        size=trials.size,
        metric=judged.metric,
        n=len(pairs),
        split=pairs.split,
        fingerprint=pairs.fingerprint,
        pairs=tuple(pairs.fingerprints),
        trials=tuple(
            WeightTrial(weights=weights, ranking=ranking, **vars(line))
            for (weights, ranking), line in zip(grid, judged.lines, strict=True)
        ),
    )


def _drawn(
    n: int, trials: WeightTrials, config: EnsembleConfig, seed: int
) -> list[tuple[float, ...]]:
    """All alike first, then each alone where that makes an ensemble, then random ones."""
    weights = [(1 / n,) * n]
    if config.reduction != "min":
        weights += [tuple(float(column == row) for column in range(n)) for row in range(n)]
    draw = np.random.default_rng(seed)
    return weights + [tuple(row) for row in draw.dirichlet([1.0] * n, trials.draws).tolist()]
