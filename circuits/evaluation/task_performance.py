"""Does the model do the task at all? Accuracy and metric on clean and corrupted prompts.

A circuit is the circuit of a behaviour. Where the model does not show it, edges get scores all the
same, and nothing in the scores tells. Two forward passes a pair do.

- Accuracy, where a pair has wrong answers: the share of examples in which the best right token has
  a larger logit than the best wrong one. Chance is a blind choice between the two sets of tokens.
- Accuracy, elsewhere: the share of an example's answer positions whose most likely token of the
  whole vocabulary is a right one. Chance is the best constant guess: the share of positions at
  which the most frequent answer is right.

Intervals: Wilson's for a share of examples (Wilson 1927), bootstrap for the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.evaluation.answers import is_choice, right, share_right
from circuits.graph.findings import TaskPerformance
from circuits.metrics import Metric, metric_for, per_example
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.runtime.batching import over_batches
from circuits.statistics.estimate import estimates
from tasks.pairs import PairBatch, PairSet


def task_performance(
    model: HookedModel,
    pairs: PairSet,
    *,
    metric: str | None = None,
    options: RunOptions | None = None,
) -> TaskPerformance:
    """Run every pair clean and corrupted, and say how often the model is right.

    Args:
        model: the model in question.
        pairs: prompt pairs.
        metric: its name; None takes the pairs' own.
        options: batches, seed, progress; the seed is of the bootstrap.

    Returns:
        Accuracy, chance and the metric, with 95 % intervals over the pairs.

    Raises:
        CircuitsError: where the metric is not known, or the pairs do not fit the model.
    """
    options = options or RunOptions()
    seed = options.seed
    judge = metric_for(pairs, metric)
    model.validate(pairs)
    choice = is_choice(pairs)

    values = torch.zeros(len(pairs), 5, dtype=torch.float64)
    batches = over_batches(
        model,
        pairs,
        _Answers(judge, choice),
        batch_size=options.batch_size,
        progress="doing the task" if options.progress else None,
        engine=options.engine,
    )
    for batch, batch_values in batches:
        values[batch.index.cpu()] = batch_values.double().cpu()
    clean, corrupted, difference = estimates(values[:, :2], _with_difference, seed=seed)
    right_ones, otherwise = (share_right(values[:, column], seed) for column in (2, 3))
    chance = float(values[:, 4].mean()) if choice else _constant_guess(pairs)
    return TaskPerformance(
        metric=judge.name,
        clean=clean,
        corrupted=corrupted,
        difference=difference,
        accuracy=right_ones,
        corrupted_accuracy=otherwise,
        chance=chance,
        choice=choice,
    )


@dataclass(frozen=True)
class _Answers:
    """The work on a batch: metric and share right, clean and corrupted, and what a guess gets."""

    metric: Metric
    choice: bool

    @torch.no_grad()
    def __call__(self, model: HookedModel, batch: PairBatch) -> Float[Tensor, "batch 5"]:
        clean = model.logits(batch.clean, batch)
        corrupted = model.logits(batch.corrupted, batch)
        columns = [self.metric(clean, batch, clean), self.metric(corrupted, batch, clean)]
        columns += [right(logits, batch, self.choice) for logits in (clean, corrupted)]
        return torch.stack([*columns, _guess(batch)], dim=1)


def _with_difference(means: Float[Tensor, "*resample 2"]) -> Float[Tensor, "*resample 3"]:
    return torch.cat([means, means[..., :1] - means[..., 1:]], dim=-1)


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
