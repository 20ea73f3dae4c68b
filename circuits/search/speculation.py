"""Decisions that depend on one another, measured several at a time.

A greedy search tries one cut, keeps it or not, and tries the next on what is left. Here `width`
trials are measured together, each on the guess of how those before it end; results count up to and
including the first wrong guess, and what came after it serves as the next guess. The decisions are
those of the search that goes one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Cut = TypeVar("Cut", bound=Hashable)


@dataclass(frozen=True)
class Decision(Generic[Cut]):
    """One trial: the metric before the cut, and after it. kept: whether what was cut came back."""

    cut: Cut
    before: float
    after: float
    kept: bool


def decide(
    cuts: Sequence[Cut],
    before: float,
    measure: Callable[[list[tuple[Cut, ...]]], list[float]],
    spares: Callable[[float, float], bool],
    *,
    width: int,
    guess: Callable[[Cut], bool],
) -> Iterator[Decision[Cut]]:
    """Try the cuts in their order.

    before: the metric with none of them made. measure: the metric with each of several sets of cuts
        made. spares(before, after): whether what was cut is kept. guess: whether a cut's will be.
    """
    made: list[Cut] = []
    learned: dict[Cut, bool] = {}
    place = 0
    while place < len(cuts):
        ahead = cuts[place : place + width]
        guesses = [learned.get(cut, guess(cut)) for cut in ahead]
        path, trials = [*made], []
        for cut, kept in zip(ahead, guesses, strict=True):
            trials.append((*path, cut))
            if not kept:
                path.append(cut)
        current, right = before, True
        for cut, guessed, after in zip(ahead, guesses, measure(trials), strict=True):
            learned[cut] = spares(current, after)
            if right:
                decision = Decision(cut, current, after, learned[cut])
                place += 1
                if not decision.kept:
                    made.append(cut)
                    before = after
                right = guessed == decision.kept
                yield decision
            if not guessed:
                current = after
