"""Does the model do the task at all? Accuracy and metric on clean and corrupted prompts.

A circuit is the circuit of a behaviour. Where the model does not show it, edges get scores all the
same, and nothing in the scores tells. Two forward passes a pair do.

- Accuracy, where a pair has wrong answers: the share of examples in which the best right token has
  a larger logit than the best wrong one. Chance is a blind choice between the two sets of tokens.
- Accuracy, elsewhere: the share of an example's answer positions whose most likely token of the
  whole vocabulary is a right one. Chance is the best constant guess: the share of positions at
  which the most frequent answer is right.

Intervals: Wilson's for a share of examples (Wilson 1927; by scipy), bootstrap for the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.metrics import Logits, metric_for, per_example
from circuits.models import HookedModel
from circuits.runtime.batching import over_batches
from circuits.statistics import LEVEL
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairBatch, PairSet


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


def task_performance(
    model: HookedModel,
    pairs: PairSet,
    *,
    metric: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> TaskPerformance:
    """Run every pair clean and corrupted, and say how often the model is right.

    metric: None takes the pairs' own. seed: of the bootstrap.
    """
    judge = metric_for(pairs, metric)
    model.validate(pairs)
    choice = all(any(pair.wrong) for pair in pairs)

    @torch.no_grad()
    def work(batch: PairBatch) -> Float[Tensor, "batch 5"]:
        clean = model.logits(batch.clean, batch)
        corrupted = model.logits(batch.corrupted, batch)
        columns = [judge(clean, batch, clean), judge(corrupted, batch, clean)]
        columns += [_right(logits, batch, choice) for logits in (clean, corrupted)]
        return torch.stack([*columns, _guess(batch)], dim=1)

    values = torch.zeros(len(pairs), 5, dtype=torch.float64)
    desc = "doing the task" if progress else None
    for batch, found in over_batches(model, pairs, work, batch_size=batch_size, progress=desc):
        values[batch.index.cpu()] = found.double().cpu()
    clean, corrupted, difference = estimates(values[:, :2], _with_difference, seed=seed)
    right, otherwise = (_share(values[:, column], seed) for column in (2, 3))
    chance = float(values[:, 4].mean()) if choice else _constant_guess(pairs)
    return TaskPerformance(
        judge.name, clean, corrupted, difference, right, otherwise, chance, choice
    )


def _with_difference(means: Float[Tensor, "*resample 2"]) -> Float[Tensor, "*resample 3"]:
    return torch.cat([means, means[..., :1] - means[..., 1:]], dim=-1)


def _right(logits: Logits, batch: PairBatch, choice: bool) -> Float[Tensor, " batch"]:
    """Share of an example's answer positions at which the model is right."""
    if not choice:
        hit = (logits.argmax(dim=-1)[:, None] == batch.answer).any(dim=1)
        return per_example(hit.to(logits.dtype), batch)
    best = [
        logits.gather(1, tokens.clamp(min=0)).masked_fill(tokens < 0, -math.inf).amax(dim=1)
        for tokens in (batch.answer, batch.wrong)
    ]
    ahead = (best[0] > best[1]).to(logits.dtype)
    return per_example(ahead, batch, (batch.wrong >= 0).any(dim=1))


def _guess(batch: PairBatch) -> Float[Tensor, " batch"]:
    """What a blind choice among an example's right and wrong tokens gets right."""
    right, wrong = ((tokens >= 0).sum(dim=1) for tokens in (batch.answer, batch.wrong))
    return per_example((right / (right + wrong)).float(), batch, wrong > 0)


def _constant_guess(pairs: PairSet) -> float:
    """Share of answer positions at which the most frequent right token is right."""
    seen: dict[int, float] = {}
    for pair in pairs:
        for tokens in pair.answer:
            for token in set(tokens):
                seen[token] = seen.get(token, 0.0) + 1 / len(pair.answer)
    return max(seen.values()) / len(pairs)


def _share(values: Float[Tensor, " example"], seed: int) -> Estimate:
    """A mean of shares: Wilson's interval where each example is right or wrong, else bootstrap."""
    from scipy.stats import binomtest  # takes most of a second to import

    n, mean = len(values), float(values.mean())
    if not ((values == 0) | (values == 1)).all():
        return estimates(values[:, None], lambda means: means, seed=seed)[0]
    found = binomtest(round(float(values.sum())), n).proportion_ci(LEVEL, method="wilson")
    return Estimate(mean, float(found.low), float(found.high), n)


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return "[one pair: no interval]"
    return f"[{estimate.low:.3g}, {estimate.high:.3g}]"
