"""What evaluation finds out about scores and circuits, as their files keep it.

Plain records, below everything that makes them: `circuits.evaluation` fills them in, and a score or
circuit file carries them in its provenance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from circuits.errors import CircuitsError
from circuits.format import listed
from circuits.options.choices import Level, Ranking, Strategy
from circuits.runtime.result_file import Record
from circuits.statistics.estimate import Estimate

if TYPE_CHECKING:
    from circuits.graph.levels import AnyCircuit, AnyScores

MOST = 100_000
"""Examples beyond which nothing is extrapolated."""


class TaskPerformance(Record):
    """How well a model does a task, over n pairs.

    metric: its name; clean, corrupted: its means. difference: clean minus corrupted, paired.
    accuracy, corrupted_accuracy: against the clean prompt's answers. chance: what guessing gives.
    choice: accuracy is a choice between right and wrong tokens, not of the whole vocabulary.
    """

    metric: str
    clean: Estimate
    corrupted: Estimate
    difference: Estimate
    accuracy: Estimate
    corrupted_accuracy: Estimate
    chance: float
    choice: bool

    @property
    def n(self) -> int:
        """Pairs that it was measured on."""
        return self.accuracy.n

    @property
    def doubts(self) -> tuple[str, ...]:
        """Reasons to think that the model does not do the task; none is no proof that it does."""
        reasons = []
        if not self.accuracy.low > self.chance:
            reasons.append(
                f"accuracy {self.accuracy.value:.2f} "
                f"{_interval(self.accuracy)} is not above chance ({self.chance:.2f})"
            )
        if not (self.difference.low > 0 or self.difference.high < 0):
            reasons.append(
                f"{self.metric} on clean prompts is not told apart from corrupted ones (difference "
                f"{self.difference.value:.3g} {_interval(self.difference)})"
            )
        elif self.difference.high < 0:
            reasons.append(
                f"{self.metric} is lower on clean prompts than on corrupted ones (difference "
                f"{self.difference.value:.3g} {_interval(self.difference)})"
            )
        return tuple(reasons)

    def require_accuracy(self, accuracy: float) -> None:
        """Refuse a model whose accuracy on the clean prompts is lower.

        Args:
            accuracy: the least that will do, from 0 to 1.

        Raises:
            CircuitsError: where it is lower.
        """
        if self.accuracy.value < accuracy:
            raise CircuitsError(
                f"accuracy {self.accuracy.value:.3f} on {self.n} pairs is below the required "
                f"{accuracy:g}; the model does not do this task as the prompts ask it"
            )

    def lines(self) -> list[str]:
        """What a user is told: the figures, then each doubt."""
        what = "right over wrong answer" if self.choice else "most likely token"
        lines = [
            f"accuracy ({what}): clean {self.accuracy.value:.2f} {_interval(self.accuracy)}, "
            f"corrupted {self.corrupted_accuracy.value:.2f}, chance {self.chance:.2f}; "
            f"{self.metric}: clean {self.clean.value:.3f} {_interval(self.clean)}, corrupted "
            f"{self.corrupted.value:.3f} {_interval(self.corrupted)}, n = {self.n}"
        ]
        return lines + [f"warning: does the model do the task? {doubt}" for doubt in self.doubts]


@dataclass(frozen=True)
class Needed:
    """Examples at which the likeness reaches the target, with a 95 % interval; at most `MOST`."""

    value: int
    low: int
    high: int


class Reliability(Record):
    """How far scores and a circuit depend on the examples that they come from.

    level: what is scored: "edge", "node" or "neuron". n: examples.
    size, strategy, ranking: of the circuit.
    scores: correlation of mean scores with those of n others. sampling_error: relative L1 error.
    split_half_jaccard: Jaccard index of circuits of two disjoint halves, mean over splits.
    likeness: the same of circuits of two sets of n.
    target: the likeness asked for. needed: n for it; None where the halves are too unlike to tell.
    curve: numbers of examples, and the likeness of circuits of so many.
    """

    level: Level
    n: int
    size: int
    strategy: Strategy
    ranking: Ranking
    scores: Estimate
    sampling_error: Estimate
    split_half_jaccard: float
    likeness: Estimate
    target: float
    needed: Needed | None
    curve: tuple[tuple[int, float], ...]

    def lines(self, quadrature: float | None = None) -> tuple[str, str]:
        """What it says, of the scores and of circuits.

        Args:
            quadrature: the error of quadrature, to say beside that of sampling; None says nothing
                of it.

        Returns:
            A line on the scores, and one on circuits.
        """
        quadrature_text = "" if quadrature is None else f", of quadrature {quadrature:.1%}"
        return (
            f"reliability of the scores over {self.n} examples {self.scores}; error of sampling "
            f"{_percent(self.sampling_error)}{quadrature_text}",
            f"circuits of {self.size} {self.level}s ({self.strategy}, {self.ranking}) from "
            f"{self.n} other examples: Jaccard index {self.likeness} with this one; {self.takes}",
        )

    @property
    def takes(self) -> str:
        """How many examples the target takes, in words."""
        if self.needed is None:
            index = f"Jaccard index of circuits of halves {self.split_half_jaccard:.2f}"
            return f"{index}, too little to tell what more would do"
        if self.needed.value >= MOST:
            return f"{self.target:g} takes more than {MOST:,} examples"
        ends = f"[{self.needed.low}, {self.needed.high}]"
        return f"{self.target:g} takes about {self.needed.value} {ends} examples"

    @property
    def reached(self) -> bool:
        """Whether circuits of so many examples are as alike as the target asks."""
        return self.likeness.value >= self.target


class RankingTrial(Record):
    """One ranking on the pairs of the choice.

    positive_ratio: the share by signed score, of a mix. f: at the size asked for. abs_gap: |1 - f|
    there. area_abs_gap: area under |1 - f| along the short curve. n_kept: edges (nodes, neurons)
    left by pruning at that size.
    """

    ranking: Ranking
    positive_ratio: float | None
    f: Estimate
    abs_gap: Estimate
    area_abs_gap: Estimate
    n_kept: int

    @property
    def name(self) -> str:
        """The ranking, with the share of a mix."""
        if self.positive_ratio is None:
            return self.ranking
        return f"{self.ranking} {self.positive_ratio:g}"


class RankingChoice(Record):
    """The ranking taken, and all that were tried.

    not_told_apart: names of the trials whose |1 - f| at this size could not be told from that of
        the one taken, which then has the least area under |1 - f|.
    size: edges (nodes, neurons) asked for. strategy: as for `select`.
    metric: its name. n, split, fingerprint: of the pairs of the choice.
    """

    ranking: Ranking
    positive_ratio: float | None
    not_told_apart: tuple[str, ...]
    size: int
    strategy: Strategy | None
    metric: str
    n: int
    split: str
    fingerprint: str
    trials: tuple[RankingTrial, ...]

    @property
    def taken(self) -> RankingTrial:
        """The trial of the ranking that was taken."""
        wanted = (self.ranking, self.positive_ratio)
        return next(
            trial for trial in self.trials if (trial.ranking, trial.positive_ratio) == wanted
        )

    @property
    def reason(self) -> str:
        """Why it was taken, as part of a sentence."""
        if not self.not_told_apart:
            return "f is nearest to 1 at this size"
        return (
            f"f at this size does not tell it from {listed(self.not_told_apart)}, and its area "
            "under |1 - f| is the least"
        )

    def select(self, scores: AnyScores, *, prune: bool = True) -> AnyCircuit:
        """Choose the circuit of this size by this ranking.

        Args:
            scores: those that the choice was made for.
            prune: whether to leave out what is on no path from input to logits.

        Returns:
            The circuit, whose provenance says how it was chosen.
        """
        from circuits.graph.levels import select_size  # circuits carry choices, so not above

        circuit = select_size(
            scores,
            self.size,
            strategy=self.strategy,
            ranking=self.ranking,
            positive_ratio=self.positive_ratio,
            prune=prune,
        )
        return circuit.chosen_by(self)


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return "[one pair: no interval]"
    return f"[{estimate.low:.3g}, {estimate.high:.3g}]"
