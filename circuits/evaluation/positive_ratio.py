"""Which share of positive scores to keep, chosen on examples of its own.

Ranking `mixed` fills a share of each circuit by signed score, the rest by absolute score. The best
share differs from task to task, and one chosen on the examples that it is then judged on looks
better than it is: choose it here on a validation split, and judge it on another.
Source: Nikankin et al. (2025), arXiv:2510.25786, there of edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from circuits.errors import CircuitsError
from circuits.evaluation.faithfulness import FRACTIONS, CurveConfig, faithfulness
from circuits.graph import AnyScores
from circuits.graph.levels import order_of
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.options.choices import Ablation, Share, Strategy
from circuits.options.declared import Options
from circuits.options.run import RunOptions
from circuits.statistics.estimate import Estimate
from tasks.pairs import PairSet

Objective = Literal["cmd", "cpr"]


@dataclass(frozen=True)
class RatioConfig(Options):
    """What is tried, and what makes one ratio better than another.

    Attributes:
        objective: The least area under |1 - f| (cmd), or the largest under f (cpr).
        positive_ratios: Shares of each circuit that are filled by signed score.
        strategy: How a ranking becomes an order (default: widest-path; for nodes and neurons top-n,
            the only one there is).
        fractions: Circuit sizes along the curve, as for `CurveConfig`.
    """

    objective: Objective = "cmd"
    positive_ratios: tuple[Share, ...] = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    strategy: Strategy | None = None
    fractions: tuple[float, ...] = FRACTIONS

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.positive_ratios:
            raise CircuitsError("tune_positive_ratio: no ratios to try; give at least one")


@dataclass(frozen=True)
class RatioSearch:
    """The ratio taken, and the area of each one tried.

    areas: under |1 - f| for objective "cmd", under f for "cpr", by the ratio.
    """

    positive_ratio: float
    objective: Objective
    areas: dict[float, Estimate]


def tune_positive_ratio(
    model: HookedModel,
    scores: AnyScores,
    pairs: PairSet,
    *,
    config: RatioConfig | None = None,
    metric: str | None = None,
    ablation: Ablation | MeanActivations = "corrupted",
    options: RunOptions | None = None,
) -> RatioSearch:
    """Find the share of signed score with the best faithfulness curve on these pairs.

    Args:
        model: the model that was scored.
        scores: of edges, nodes or neurons.
        pairs: prompt pairs that were not scored on, and that the circuit is not judged on later.
        config: what is tried, and the objective; None takes the defaults of `RatioConfig`.
        metric: its name; None takes the pairs' own.
        ablation: what stands in for what is left out, as for `measure`.
        options: batches, seed, progress; the seed is of the bootstrap.

    Returns:
        The best ratio, the lowest of equal ones, and the area of each.

    Raises:
        UndefinedMetricError: where clean and corrupted metric are equal.
        CircuitsError: where the scores were made from these pairs.
    """
    config = config or RatioConfig()
    if scores.provenance.is_of(pairs):
        raise CircuitsError(
            "the scores were made from these examples; choose the ratio on others, or it will fit "
            "their noise"
        )
    orders = {
        str(ratio): order_of(scores, config.strategy, "mixed", positive_ratio=ratio)
        for ratio in config.positive_ratios
    }
    curves = faithfulness(
        model,
        scores,
        pairs,
        metric=metric,
        ablation=ablation,
        curve=CurveConfig(config.strategy, config.fractions, n_random=0, extra_orders=orders),
        options=options,
    ).curves
    least = config.objective == "cmd"
    areas = {}
    for ratio in config.positive_ratios:
        curve = curves[str(ratio)]
        areas[ratio] = curve.area_abs_gap if least else curve.area_f
    sign = 1 if least else -1
    best = min(areas, key=lambda ratio: (sign * areas[ratio].value, ratio))
    return RatioSearch(best, config.objective, areas)
