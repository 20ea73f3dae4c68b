"""Decisions that depend on one another, measured several at a time.

A greedy search removes one candidate, leaves it out or puts it back, and tries the next. Here
`width` trials are measured together, each on the guess of how those before it end; results count up
to and including the first wrong guess, and what came after it serves as the next guess. The
decisions are those of the search that goes one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Candidate = TypeVar("Candidate", bound=Hashable)


@dataclass(frozen=True)
class Decision(Generic[Candidate]):
    """One trial: the metric before and after the candidate's removal.

    kept: whether it was put back.
    """

    candidate: Candidate
    before: float
    after: float
    kept: bool


def decide(
    candidates: Sequence[Candidate],
    before: float,
    measure: Callable[[list[tuple[Candidate, ...]]], list[float]],
    keeps: Callable[[float, float], bool],
    *,
    width: int,
    guess: Callable[[Candidate], bool],
) -> Iterator[Decision[Candidate]]:
    """Try to remove the candidates in their order.

    before: the metric with none of them removed. measure: the metric with each of several sets of
        candidates removed. keeps(before, after): whether a candidate is put back. guess: whether it
        will be.
    """
    removed: list[Candidate] = []
    learned: dict[Candidate, bool] = {}
    n_done = 0
    while n_done < len(candidates):
        ahead = candidates[n_done : n_done + width]
        guesses = [learned.get(candidate, guess(candidate)) for candidate in ahead]
        path, trials = [*removed], []
        for candidate, kept in zip(ahead, guesses, strict=True):
            trials.append((*path, candidate))
            if not kept:
                path.append(candidate)
        current, right = before, True
        for candidate, guessed, after in zip(ahead, guesses, measure(trials), strict=True):
            learned[candidate] = keeps(current, after)
            if right:
                decision = Decision(candidate, current, after, learned[candidate])
                n_done += 1
                if not decision.kept:
                    removed.append(candidate)
                    before = after
                right = guessed == decision.kept
                yield decision
            if not guessed:
                current = after
