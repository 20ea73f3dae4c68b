"""What a run is judged by: one number an example, higher meaning closer to the clean behaviour.

Every metric is the mean over an example's answer positions (those of `PairBatch`). Sets of
right and wrong tokens are as the pair gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from tasks.pairs import PairBatch, PairSet

Logits = Float[Tensor, "read vocab"]


@dataclass(frozen=True)
class Metric:
    """A named metric.

    needs_wrong: only for pairs with wrong answers. needs_reference: compares with the clean run's
    logits. differentiable: may be attributed.
    """

    name: str
    function: Callable[[Logits, PairBatch, Logits], Float[Tensor, " batch"]]
    needs_wrong: bool = False
    needs_reference: bool = False
    differentiable: bool = True

    def __call__(
        self, logits: Logits, batch: PairBatch, reference: Logits | None = None
    ) -> Float[Tensor, " batch"]:
        """Per-example values; NaN and infinity are refused with the example's name."""
        if reference is None:
            if self.needs_reference:
                raise CircuitsError(f"{self.name} needs the clean run's logits")
            reference = logits
        values = self.function(logits, batch, reference)
        if not torch.isfinite(values).all():
            bad = int((~torch.isfinite(values)).nonzero()[0])
            raise CircuitsError(
                f"{batch.sources[bad]}: {self.name} is {float(values[bad].detach())}; look for "
                "overflow in the model (try float32) or an empty answer"
            )
        return values

    def validate(self, pairs: PairSet) -> None:
        """Refuse pairs that this metric cannot read, naming the row."""
        if not self.needs_wrong:
            return
        for pair in pairs:
            if not any(pair.wrong):
                raise CircuitsError(
                    f"{pair.source}: {self.name} needs a wrong answer, and this pair has none; "
                    "use answer-log-probability"
                )


def metric_for(pairs: PairSet, name: str | None = None) -> Metric:
    """The metric of that name, or the pairs' own; checked with the pairs."""
    name = name or pairs.metric
    if name not in METRICS:
        raise CircuitsError(f"unknown metric {name!r}; known: {', '.join(METRICS)}")
    METRICS[name].validate(pairs)
    return METRICS[name]


def _logit_difference(logits: Logits, batch: PairBatch, _: Logits) -> Float[Tensor, " batch"]:
    """Mean logit of the right tokens minus mean logit of the wrong ones, where both exist."""
    right = _mean_over_set(logits, batch.answer)
    wrong = _mean_over_set(logits, batch.wrong)
    return per_example(right - wrong, batch, (batch.wrong >= 0).any(dim=1))


def _answer_log_probability(logits: Logits, batch: PairBatch, _: Logits) -> Float[Tensor, " batch"]:
    """Log-probability, in nats, of the right tokens together."""
    logs = torch.log_softmax(logits, dim=-1)
    values = _gather(logs, batch.answer).masked_fill(batch.answer < 0, -torch.inf)
    return per_example(values.logsumexp(dim=1), batch)


def _probability_difference(logits: Logits, batch: PairBatch, _: Logits) -> Float[Tensor, " batch"]:
    """Probability of the right tokens minus that of the wrong ones."""
    probabilities = torch.softmax(logits, dim=-1)
    right = (_gather(probabilities, batch.answer) * (batch.answer >= 0)).sum(dim=1)
    wrong = (_gather(probabilities, batch.wrong) * (batch.wrong >= 0)).sum(dim=1)
    return per_example(right - wrong, batch, (batch.wrong >= 0).any(dim=1))


def _negative_kl(logits: Logits, batch: PairBatch, reference: Logits) -> Float[Tensor, " batch"]:
    """Minus the KL divergence, in nats, of this run's distribution from the clean run's."""
    logs, clean = torch.log_softmax(logits, dim=-1), torch.log_softmax(reference, dim=-1)
    return per_example(-(clean.exp() * (clean - logs)).sum(dim=-1), batch)


def _accuracy(logits: Logits, batch: PairBatch, _: Logits) -> Float[Tensor, " batch"]:
    """Share of positions whose most likely token is a right one."""
    hit = (logits.argmax(dim=-1)[:, None] == batch.answer).any(dim=1)
    return per_example(hit.to(logits.dtype), batch)


def _gather(values: Logits, tokens: Int[Tensor, "read k"]) -> Float[Tensor, "read k"]:
    return values.gather(1, tokens.clamp(min=0))


def _mean_over_set(logits: Logits, tokens: Int[Tensor, "read k"]) -> Float[Tensor, " read"]:
    present = tokens >= 0
    return (_gather(logits, tokens) * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)


def per_example(
    values: Float[Tensor, " read"], batch: PairBatch, counted: Bool[Tensor, " read"] | None = None
) -> Float[Tensor, " batch"]:
    """Mean over each example's reads, or over those counted.

    values, counted: one for each answer position of the batch, in order.
    """
    weight = torch.ones_like(values) if counted is None else counted.to(values.dtype)
    total = values.new_zeros(len(batch)).index_add(0, batch.example_index, values * weight)
    return total / weight.new_zeros(len(batch)).index_add(0, batch.example_index, weight)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("logit-difference", _logit_difference, needs_wrong=True),
        Metric("answer-log-probability", _answer_log_probability),
        Metric("probability-difference", _probability_difference, needs_wrong=True),
        Metric("kl-divergence", _negative_kl, needs_reference=True),
        Metric("accuracy", _accuracy, differentiable=False),
    )
}
