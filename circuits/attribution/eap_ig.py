"""EAP with integrated gradients (EAP-IG, inputs): the gradient averaged from corrupted to clean.

Source: Hanna, Pezzelle & Belinkov (2024), "Have Faith in Faithfulness": the embedding
moves in a straight line from the corrupted to the clean prompt's. Cost: `steps` forward and
backward passes and two forwards; "auto", two forwards more for each level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from circuits.attribution.batch_scores import BatchScores
from circuits.attribution.method import PathMethod
from circuits.attribution.quadrature import LEVELS, STAGGERED, Rule, rule, staggered
from circuits.attribution.refinement import ScoreFunction, adaptive
from circuits.errors import CircuitsError
from circuits.options.choices import Quadrature
from circuits.planning.costs import path_phases, path_work
from circuits.planning.jobs import CostModel
from tasks.pairs import PairBatch

AUTO: Literal["auto"] = "auto"
TOLERANCE = 0.02


@dataclass(frozen=True)
class EAPIG(PathMethod):
    """steps: points on the path, or "auto": for each example as many as it needs to bring its
        estimated error down to `tolerance`.
    quadrature: where the points lie, a name from `quadrature.RULES`; "left" is the paper's,
        "calibrated" fits the weights to each example. "auto" is calibrated;
        "staggered" takes other points for each example, for means over many.
    tolerance: for "auto", the largest estimated error of an example, 0.02 by default;
        docs/quadrature.md says what error of the mean scores that leaves.
    """

    name: ClassVar[str] = "eap-ig"
    cost: ClassVar[CostModel] = CostModel(
        "eap-ig",
        "gradients averaged from corrupted to clean inputs",
        path_phases,
        path_work,
        5,
        counted=True,
        splits=True,
        recomputes=True,
    )
    steps: int | Literal["auto"] = 5
    quadrature: Quadrature = "midpoint"
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.steps, int):
            rule("midpoint" if self.quadrature == STAGGERED else self.quadrature, self.steps)
            if self.tolerance is not None:
                raise CircuitsError(f"a tolerance belongs to steps={AUTO!r}, not to {self.steps}")
            return
        if self.steps != AUTO:
            raise CircuitsError(f"steps={self.steps!r}: a whole number, or {AUTO!r}")
        if self.quadrature not in ("midpoint", "calibrated"):  # the default, or by name
            raise CircuitsError(
                f"steps={AUTO!r} is calibrated; it takes no quadrature {self.quadrature!r}"
            )
        object.__setattr__(self, "quadrature", "calibrated")
        if self.tolerance is None:
            object.__setattr__(self, "tolerance", TOLERANCE)
        elif not 0 < self.tolerance < 1:
            raise CircuitsError(f"tolerance={self.tolerance}: it must lie between 0 and 1")

    @property
    def quadrature_rule(self) -> Rule:
        """The points asked for; with "auto", those that every example needs."""
        if self.quadrature == STAGGERED and isinstance(self.steps, int):
            return staggered(self.steps, torch.zeros(1, dtype=torch.long))
        return rule(self.quadrature, self.steps) if isinstance(self.steps, int) else LEVELS[0]

    def integrate(self, score_at: ScoreFunction, batch: PairBatch) -> BatchScores:
        """The points asked for, or as many as each example needs.

        Of staggered points the completeness gap of an example says nothing of the mean.
        """
        if self.quadrature == STAGGERED and isinstance(self.steps, int):
            path_scores = score_at(batch, staggered(self.steps, batch.index)).scores()
            return BatchScores(path_scores.scores, path_scores.clean, path_scores.corrupted)
        if isinstance(self.steps, int):
            return score_at(batch, self.quadrature_rule).scores()
        return adaptive(score_at, batch, self.tolerance or TOLERANCE)
