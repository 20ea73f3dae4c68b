"""How far two conditions of a comparison lie apart, over seeds and examples together.

Conditions are compared run by run of one seed, which reads the data in one order, and example by
example, so that what a seed or an example does to both cancels. Runs of one condition with one seed
(random draws of layers) count as their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.format import estimate
from circuits.statistics.crossed import crossed_mean
from circuits.statistics.estimate import Estimate
from circuits.tuning.lora_targets import BASE
from circuits.tuning.rouge import SummaryScores

ScoreName = Literal["ROUGE-L", "held-out loss"]


@dataclass(frozen=True)
class Difference:
    """One condition's score less another's.

    first, second: the conditions; the second may be the untrained base, "none".
    score: ROUGE-L, where higher is better, or the held-out loss in nats a target token, where lower
        is.
    value: the first's less the second's, with its 95 % interval over seeds and examples; of a
        single seed over examples alone. n: examples.
    """

    first: str
    second: str
    score: ScoreName
    value: Estimate

    @property
    def better(self) -> bool:
        """Whether the first has the better mean."""
        return self.value.value < 0 if self.score == "held-out loss" else self.value.value > 0

    @property
    def outcome(self) -> str:
        """What the interval says of the first condition: better, worse, or not shown."""
        if not self.value.excludes_zero:
            return "not shown"
        return "better" if self.better else "worse"

    @property
    def verdict(self) -> str:
        """The comparison in one line."""
        return f"{self.first} against {self.second}: {estimate(self.value)}, {self.outcome}"


ScoresBySeed = Mapping[int, Sequence[SummaryScores]]
"""Scores of a condition's runs, by seed."""


def differences(
    conditions: Mapping[str, ScoresBySeed], base: SummaryScores
) -> tuple[Difference, ...]:
    """Every condition against those after it, and against the base.

    Args:
        conditions: scores of each condition's runs on the same examples, with the same seeds.
        base: scores of the untrained base on them.

    Returns:
        The differences in ROUGE-L and in held-out loss, in the order of the conditions.
    """
    seeds = list(next(iter(conditions.values())))
    with_base = {**conditions, BASE: {seed: [base] for seed in seeds}}
    rouge = {
        name: _means(runs, lambda run_scores: run_scores.rougeL) for name, runs in with_base.items()
    }
    loss = {
        name: _means(runs, lambda run_scores: run_scores.targets.loss)
        for name, runs in with_base.items()
    }
    tokens = torch.tensor(base.targets.tokens, dtype=torch.float64)
    rows = []
    for first, second in combinations(with_base, 2):
        rows.append(
            Difference(first, second, "ROUGE-L", crossed_mean(rouge[first] - rouge[second]))
        )
        loss_difference = _by_token(loss[first] - loss[second], tokens)
        rows.append(Difference(first, second, "held-out loss", crossed_mean(loss_difference)))
    return tuple(rows)


def _means(
    runs: ScoresBySeed, score: Callable[[SummaryScores], Sequence[float]]
) -> Float[Tensor, "seed example"]:
    """A score of every example, by seed; the mean over runs of one seed."""
    rows = [[score(run_scores) for run_scores in of_seed] for of_seed in runs.values()]
    return torch.stack([torch.tensor(row, dtype=torch.float64).mean(dim=0) for row in rows])


def _by_token(
    difference: Float[Tensor, "seed example"], tokens: Float[Tensor, " example"]
) -> Float[Tensor, "seed example"]:
    """What each example adds to a difference in nats a target token, whose mean is that difference.

    A mean over all tokens is a ratio, of a sum of nats to a number of tokens, and another sample of
    examples has another number: linearised, an example adds to the ratio what it has more nats than
    its tokens explain.
    """
    ratio = difference.mean() / tokens.mean()
    return ratio + (difference - ratio * tokens) / tokens.mean()
