"""Cross entropy of target tokens, in nats, with logits only where a target token is read.

The hidden states at answer positions are picked out in front of the unembedding, so that the
largest tensor of a step is (answer positions, vocabulary) and not (batch, positions, vocabulary).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from circuits.errors import CircuitsError
from circuits.models.sparse_last_layer import sparse_last_layer
from circuits.tuning.batches import (
    TargetBatch,
    by_length,
    collate,
    fed_length,
)
from tasks.pairs import TrainingExample

if TYPE_CHECKING:
    from circuits.tuning.tuned_model import TunedModel


@dataclass(frozen=True)
class TargetScores:
    """How well a model predicts targets, example by example, each token given those before it.

    loss: negative log-likelihood of the whole target, in nats.
    correct: target tokens that were the model's first choice.
    tokens: target tokens.
    """

    loss: tuple[float, ...]
    correct: tuple[int, ...]
    tokens: tuple[int, ...]

    @property
    def mean_loss(self) -> float:
        """Nats a target token, over all tokens of all examples."""
        return sum(self.loss) / sum(self.tokens)

    @property
    def token_accuracy(self) -> float:
        """Share of all target tokens that were the model's first choice."""
        return sum(self.correct) / sum(self.tokens)


def target_logits(
    model: TunedModel,
    batch: TargetBatch,
    *,
    run: nn.Module | None = None,
    tail: Sequence[nn.Module] = (),
) -> Float[Tensor, "read vocabulary"]:
    """Answer logits of a batch, in float32.

    model: Hugging Face causal, PEFT or not. run: the same, as it is called where it is spread over
    processes. tail: modules of the last layer that are run where a target is read, nowhere else.
    """
    narrow = sparse_last_layer(tail, len(batch), batch.example_index, batch.position)
    with _only_at(model, batch), narrow:
        logits: Tensor = (run or model)(
            input_ids=batch.tokens, attention_mask=batch.mask.long(), use_cache=False
        ).logits
    if logits.shape[:2] != (1, len(batch.example_index)):
        raise CircuitsError(
            f"{type(model).__name__} does not take its logits from get_output_embeddings(), "
            "so they cannot be limited to the target positions; use a causal language model"
        )
    return logits[0].float()


def summed_loss(
    outputs: Float[Tensor, "read vocabulary"],
    labels: Int[Tensor, " read"],
    num_items_in_batch: int,
) -> Float[Tensor, ""]:
    """Cross entropy summed over reads, in units of the targets of the whole step: over all pieces
    of a step it adds up to the mean. The names are those that Trainer knows.
    """
    return cross_entropy(outputs, labels, reduction="sum") / num_items_in_batch


def score_targets(
    model: TunedModel, examples: Sequence[TrainingExample], *, batch_size: int = 32
) -> TargetScores:
    """Teacher-forced loss and accuracy of each example, dropout off."""
    loss, correct = [0.0] * len(examples), [0] * len(examples)
    with evaluating(model):
        for index in by_length([fed_length(example) for example in examples], batch_size):
            batch = collate([examples[i] for i in index]).to(model.device)
            logits = target_logits(model, batch)
            token_scores = torch.stack(
                [
                    cross_entropy(logits, batch.labels, reduction="none").double(),
                    (logits.argmax(-1) == batch.labels).double(),
                ]
            )
            sums = (
                token_scores.new_zeros(2, len(batch))
                .index_add_(1, batch.example_index, token_scores)
                .tolist()
            )
            for i, nats, hits in zip(index, *sums, strict=True):
                loss[i], correct[i] = nats, int(hits)
    return TargetScores(
        tuple(loss), tuple(correct), tuple(len(example.target) for example in examples)
    )


@contextmanager
def evaluating(model: TunedModel) -> Iterator[None]:
    """Dropout off and no gradients within the block; the mode is put back after it."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


@contextmanager
def _only_at(model: TunedModel, batch: TargetBatch) -> Iterator[None]:
    def pick(_: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][batch.example_index, batch.position][None], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()
