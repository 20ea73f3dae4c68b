"""What evaluation finds out about scores and circuits, as their files keep it.

Plain records, below everything that makes them: `circuits.evaluation` fills them in, and a score or
circuit file carries them in its provenance.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from circuits.errors import CircuitsError
from circuits.statistics.estimate import Estimate

if TYPE_CHECKING:
    from circuits.graph.levels import AnyCircuit, AnyScores

MOST = 100_000
"""Examples beyond which nothing is extrapolated."""


@dataclass(frozen=True)
class TaskPerformance:
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
        found = []
        if not self.accuracy.low > self.chance:
            found.append(
                f"accuracy {self.accuracy.value:.2f} "
                f"{_interval(self.accuracy)} is not above chance ({self.chance:.2f})"
            )
        if not (self.difference.low > 0 or self.difference.high < 0):
            found.append(
                f"{self.metric} on clean prompts is not told apart from corrupted ones (difference "
                f"{self.difference.value:.3g} {_interval(self.difference)})"
            )
        elif self.difference.high < 0:
            found.append(
                f"{self.metric} is lower on clean prompts than on corrupted ones (difference "
                f"{self.difference.value:.3g} {_interval(self.difference)})"
            )
        return tuple(found)

    def validate(self, accuracy: float) -> None:
        """Refuse a model whose accuracy on the clean prompts is lower."""
        if self.accuracy.value < accuracy:
            raise CircuitsError(
                f"accuracy {self.accuracy.value:.3f} on {self.n} pairs is below the required "
                f"{accuracy:g}; the model does not do this task as the prompts ask it"
            )

    def lines(self) -> list[str]:
        """What a user is told: the figures, then each doubt."""
        what = "right over wrong answer" if self.choice else "most likely token"
        told = [
            f"accuracy ({what}): clean {self.accuracy.value:.2f} {_interval(self.accuracy)}, "
            f"corrupted {self.corrupted_accuracy.value:.2f}, chance {self.chance:.2f}; "
            f"{self.metric}: clean {self.clean.value:.3f} {_interval(self.clean)}, corrupted "
            f"{self.corrupted.value:.3f} {_interval(self.corrupted)}, n = {self.n}"
        ]
        return told + [f"warning: does the model do the task? {doubt}" for doubt in self.doubts]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        figures = {
            name: value.to_dict() if isinstance(value, Estimate) else value
            for name, value in vars(self).items()
        }
        return {**figures, "doubts": list(self.doubts)}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> TaskPerformance:
        """What `to_dict` gave."""
        given: dict[str, Any] = {
            name: Estimate.from_dict(value) if isinstance(value, dict) else value
            for name, value in record.items()
            if name != "doubts"
        }
        return cls(**given)


@dataclass(frozen=True)
class Needed:
    """Examples at which the likeness reaches the target, with a 95 % interval; at most `MOST`."""

    value: int
    low: int
    high: int


@dataclass(frozen=True)
class Reliability:
    """How far scores and a circuit depend on the examples that they come from.

    unit: what is scored: "edges", "nodes" or "neurons". n: examples. size, rule, ranking: of the
        circuit.
    scores: correlation of mean scores with those of n others. sampling: relative L1 error.
    halves: Jaccard index of circuits of two disjoint halves, mean over splits.
    likeness: the same of circuits of two sets of n.
    needed: n for a likeness of `target`; None where the halves are too unlike to tell.
    curve: numbers of examples, and the likeness of circuits of so many.
    """

    unit: str
    n: int
    size: int
    strategy: str
    ranking: str
    scores: Estimate
    sampling: Estimate
    halves: float
    likeness: Estimate
    target: float
    needed: Needed | None
    curve: tuple[tuple[int, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            **asdict(self),
            **{name: getattr(self, name).to_dict() for name in ("scores", "sampling", "likeness")},
            "curve": [list(point) for point in self.curve],
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Reliability:
        """What `to_dict` gave."""
        try:
            needed = record["needed"]
            return cls(
                **{
                    **record,
                    **{
                        name: Estimate.from_dict(record[name])
                        for name in ("scores", "sampling", "likeness")
                    },
                    "needed": None if needed is None else Needed(**needed),
                    "curve": tuple((int(n), float(value)) for n, value in record["curve"]),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CircuitsError(
                f"what the scores say of their reliability cannot be read ({error}); score anew"
            ) from error

    def lines(self, quadrature: float | None = None) -> tuple[str, str]:
        """What it says, of the scores and of circuits.

        quadrature: the estimated error of quadrature, to stand beside that of sampling.
        """
        beside = "" if quadrature is None else f", of quadrature {quadrature:.1%}"
        return (
            f"reliability of the scores over {self.n} examples {self.scores}; error of sampling "
            f"{_percent(self.sampling)}{beside}",
            f"circuits of {self.size} {self.unit} ({self.strategy}, {self.ranking}) from {self.n} "
            f"other examples would share {self.likeness} of them (Jaccard); {self.takes}",
        )

    @property
    def takes(self) -> str:
        """How many examples the target takes, in words."""
        if self.needed is None:
            return f"those of halves share {self.halves:.2f}: too little to tell what more would do"
        if self.needed.value >= MOST:
            return f"{self.target:g} takes more than {MOST:,} examples"
        ends = f"[{self.needed.low}, {self.needed.high}]"
        return f"{self.target:g} takes about {self.needed.value} {ends} examples"

    @property
    def reached(self) -> bool:
        """Whether circuits of so many examples are as alike as the target asks."""
        return self.likeness.value >= self.target


@dataclass(frozen=True)
class Tried:
    """One ranking on the pairs of the choice.

    positive: the share by signed score, of a mix. f: at the size asked for. distance: of f from 1
    there. cmd: area under |1 - f| along the short curve. kept: edges (nodes, neurons) left by
    pruning at that size.
    """

    ranking: str
    positive_ratio: float | None
    f: Estimate
    distance: Estimate
    cmd: Estimate
    kept: int

    @property
    def name(self) -> str:
        """The ranking in words."""
        return (
            self.ranking
            if self.positive_ratio is None
            else f"{self.ranking} {self.positive_ratio:g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "ranking": self.ranking,
            "positive_ratio": self.positive_ratio,
            "f": self.f.to_dict(),
            "distance": self.distance.to_dict(),
            "cmd": self.cmd.to_dict(),
            "kept": self.kept,
        }


@dataclass(frozen=True)
class RankingChoice:
    """The ranking taken, why, and all that were tried.

    size: edges (nodes, neurons) asked for. n, split, fingerprint: of the pairs of the choice.
    """

    ranking: str
    positive_ratio: float | None
    why: str
    size: int
    strategy: str | None
    metric: str
    n: int
    split: str
    fingerprint: str
    tried: tuple[Tried, ...]

    def select(self, scores: AnyScores, *, prune: bool = True) -> AnyCircuit:
        """The circuit of this size and ranking, whose provenance says how it was chosen."""
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

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "ranking": self.ranking,
            "positive_ratio": self.positive_ratio,
            "why": self.why,
            "size": self.size,
            "strategy": self.strategy,
            "metric": self.metric,
            "n": self.n,
            "split": self.split,
            "fingerprint": self.fingerprint,
            "tried": [one.to_dict() for one in self.tried],
        }


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return "[one pair: no interval]"
    return f"[{estimate.low:.3g}, {estimate.high:.3g}]"
