"""Which mix of positive and negative scores to keep, chosen on examples of its own.

Ranking `mixed` fills a share of each circuit by signed score. The best share differs from task to
task, and one chosen on the examples that it is then judged on looks better than it is: choose it
here on a validation split, and judge it on another.
Source: Nikankin et al. (2025), arXiv:2510.25786.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from circuits.errors import CircuitsError
from circuits.evaluation.faithfulness import FRACTIONS, faithfulness
from circuits.graph import EdgeScores, edge_order
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.statistics.estimate import Estimate
from tasks.pairs import PairSet

SHARES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
AIMS = ("cmd", "cpr")


@dataclass(frozen=True)
class RatioSearch:
    """The share chosen, and the area of each share tried (under |1 - f| for aim "cmd")."""

    positive_ratio: float
    aim: str
    tried: dict[float, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        tried = {str(share): area.to_dict() for share, area in self.tried.items()}
        return {"positive_ratio": self.positive_ratio, "aim": self.aim, "tried": tried}


def tune_positive_ratio(
    model: HookedModel,
    scores: EdgeScores,
    pairs: PairSet,
    *,
    strategy: str = "widest-path",
    aim: str = "cmd",
    shares: Sequence[float] = SHARES,
    metric: str | None = None,
    ablation: str | MeanActivations = "corrupted",
    fractions: Sequence[float] = FRACTIONS,
    batch_size: int | None = None,
    progress: bool = False,
) -> RatioSearch:
    """The share of signed ranking with the best curve on these pairs; the lowest of equal ones.

    aim: "cmd" for the least area under |1 - f|, "cpr" for the largest under f.
    """
    if aim not in AIMS:
        raise CircuitsError(f"unknown aim {aim!r}; known: {', '.join(AIMS)}")
    if not shares:
        raise CircuitsError("choose_mix: no shares to try")
    if scores.provenance.is_of(pairs):
        raise CircuitsError(
            "the scores were made from these examples; choose the mix on others, or it will fit "
            "their noise"
        )
    curves = faithfulness(
        model,
        scores,
        pairs,
        metric=metric,
        ablation=ablation,
        strategy=strategy,
        fractions=fractions,
        others={
            str(share): edge_order(scores, strategy, "mixed", positive_ratio=share)
            for share in shares
        },
        controls=0,
        batch_size=batch_size,
        progress=progress,
    ).curves
    tried = {
        share: curves[str(share)].distance if aim == "cmd" else curves[str(share)].area
        for share in shares
    }
    sign = 1 if aim == "cmd" else -1
    return RatioSearch(min(tried, key=lambda share: (sign * tried[share].value, share)), aim, tried)
