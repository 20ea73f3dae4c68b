"""As many pairs as a task has, up to a number."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from tasks.errors import TooFewError
from tasks.named_splits import Split
from tasks.pairs import PairSet
from tasks.task import Task


def most_pairs(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    *,
    split: Split = "train",
    seed: int = 0,
    n_ctx: int | None = None,
) -> PairSet:
    """`n` pairs of the task, or all that it has where those are fewer."""
    try:
        return task.pairs(tokenizer, n, split=split, seed=seed, n_ctx=n_ctx)
    except TooFewError as error:
        if not 0 < error.there < n:
            raise
        return task.pairs(tokenizer, error.there, split=split, seed=seed, n_ctx=n_ctx)
