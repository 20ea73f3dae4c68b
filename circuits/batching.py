"""Batches that fit: work is done batch by batch, and a batch that does not fit is halved."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from tqdm.auto import tqdm

from circuits.errors import CircuitsError
from tasks.pairs import PairBatch, PairSet

_log = logging.getLogger(__name__)
_TOKENS = 2048  # per batch unless told: two prompts of 1,024

Result = TypeVar("Result")


def over_batches(
    pairs: PairSet,
    work: Callable[[PairBatch], Result],
    *,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    progress: str | None = None,
) -> Iterator[tuple[PairBatch, Result]]:
    """Do `work` on every batch, longest first; out of memory halves the batch and says so.

    progress: the words beside a progress bar; None shows none.
    """
    if batch_size is None:
        batch_size = max(1, _TOKENS // max(len(pair) for pair in pairs))
    if batch_size < 1:
        raise CircuitsError(f"batch size {batch_size}: it must be at least 1")
    with tqdm(total=len(pairs), desc=progress, unit="pair", disable=progress is None) as bar:
        queue = [batch.index.tolist() for batch in pairs.batches(batch_size)]
        while queue:
            batch = pairs.batch(queue[0]).to(device)
            try:
                result = work(batch)
            except torch.OutOfMemoryError as error:
                queue[:1] = _halved(queue[0], batch, error)
                continue
            queue.pop(0)
            yield batch, result
            bar.update(len(batch))


def _halved(index: list[int], batch: PairBatch, error: Exception) -> list[list[int]]:
    if len(index) == 1:
        raise CircuitsError(
            f"{batch.sources[0]}: out of memory with one example of {batch.clean.shape[1]} tokens; "
            "shorten the text, use dtype bfloat16, or a larger device"
        ) from error
    _log.warning("out of memory with %d examples; going on with half as many", len(index))
    middle = len(index) // 2
    return [index[:middle], index[middle:]]
