"""Does a finding stand elsewhere? One verdict over other samples, seeds, templates and corruptions.

Two questions are put together that an evaluation answers apart. Would other examples have given the
same circuit (`reliability`, else `stability`)? And does the circuit, found here, do as much on
prompts of another kind (`robustness`)?

f of two sets of pairs is compared as of independent examples (`Estimate.minus`). Perturbed prompts
are the own pairs with other words, so there the interval is wider than it need be, and a loss is
shown less easily, never more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from circuits.evaluation.reliability import TARGET
from circuits.evaluation.results import OWN, CircuitEvaluation
from circuits.evaluation.robustness import Condition
from circuits.statistics.estimate import Estimate

TOLERANCE = 0.2
"""How much of the behaviour a circuit may lose elsewhere and still hold there."""

Standing = Literal["holds", "loses", "not told", "undefined"]
Verdict = Literal["stable", "not stable", "not shown"]


@dataclass(frozen=True)
class ConditionVerdict:
    """The circuit under one other condition.

    name: of the condition. f: there; None where it is undefined.
    change: f there less f on the own pairs.
    standing: "holds" where the interval of the change lies above -`TOLERANCE` and f above that of a
        random circuit; "loses" where the interval lies below 0; "undefined" where there is no f.
    """

    name: str
    f: Estimate | None
    change: Estimate | None
    standing: Standing


@dataclass(frozen=True)
class StabilityVerdict:
    """One verdict on a circuit.

    likeness: Jaccard index with circuits of other examples; None where that was not asked.
    target: the likeness wanted.
    conditions: the circuit under each other condition.
    """

    likeness: Estimate | None
    target: float
    conditions: tuple[ConditionVerdict, ...]

    @property
    def same_circuit(self) -> bool | None:
        """Whether the likeness lies above the target, or below it; None where that is not told."""
        alike = self.likeness
        if alike is None or alike.low < self.target <= alike.high:
            return None
        return alike.low >= self.target

    @property
    def verdict(self) -> Verdict:
        """Stable where all that was asked is shown; not stable where anything is shown to fail."""
        standings = {condition.standing for condition in self.conditions}
        if self.same_circuit is False or "loses" in standings:
            return "not stable"
        asked = self.likeness is None or self.same_circuit is True
        return "stable" if asked and standings <= {"holds"} else "not shown"

    def __str__(self) -> str:
        parts = []
        if self.likeness is not None:
            said = {True: "enough", False: "too low", None: "not told apart"}[self.same_circuit]
            parts.append(
                f"circuits of other examples have a Jaccard index of {self.likeness} with it "
                f"({said}; {self.target} is wanted)"
            )
        for condition in self.conditions:
            if condition.f is None or condition.change is None:
                parts.append(f"{condition.name}: f is undefined")
            else:
                parts.append(
                    f"{condition.name}: {condition.standing}, f {condition.f}, change "
                    f"{condition.change}"
                )
        return f"{self.verdict}: {'; '.join(parts)}"


def stability_verdict(evaluation: CircuitEvaluation) -> StabilityVerdict | None:
    """Put together what an evaluation says of other examples and other conditions.

    Args:
        evaluation: of one circuit, by its ranking's own pairs.

    Returns:
        The verdict; None where neither was asked.
    """
    own = evaluation.robustness.get(OWN)
    conditions = tuple(
        _verdict_on(name, condition, own)
        for name, condition in evaluation.robustness.items()
        if name != OWN
    )
    likeness = _likeness(evaluation)
    if likeness is None and not conditions:
        return None
    target = TARGET if evaluation.reliability is None else evaluation.reliability.target
    return StabilityVerdict(likeness, target, conditions)


def _likeness(evaluation: CircuitEvaluation) -> Estimate | None:
    """The likeness with circuits of other examples: extrapolated, else between its two bounds."""
    if evaluation.reliability is not None:
        return evaluation.reliability.likeness
    stable = evaluation.stability
    if stable is None:
        return None
    low, high = stable.split_half_jaccard, stable.resample_jaccard
    return Estimate((low.value + high.value) / 2, low.value, high.value, stable.n_resamples)


def _verdict_on(name: str, condition: Condition, own: Condition | None) -> ConditionVerdict:
    f = condition.circuit
    if f is None or own is None or own.circuit is None:
        return ConditionVerdict(name, f, None, "undefined")
    change = f.minus(own.circuit)
    beats_chance = condition.control is not None and f.above(condition.control)
    standing: Standing = "not told"
    if change.high < 0:
        standing = "loses"
    elif change.low > -TOLERANCE and beats_chance:
        standing = "holds"
    return ConditionVerdict(name, f, change, standing)
