"""Batches that fit: work is done batch by batch, and a batch that does not fit is halved."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm.auto import tqdm

from circuits.errors import CircuitsError
from circuits.options.engine import RayEngine
from circuits.runtime.hands import InProcess, OnDevice, Ticket, hired
from circuits.runtime.oom import out_of_memory
from tasks.pairs import PairBatch, PairSet

_log = logging.getLogger(__name__)
_TOKENS = {"cpu": 2048}  # at a time by default: two prompts of 1,024
_TOKENS_ELSEWHERE = 8192

Model = TypeVar("Model", bound=OnDevice)
Result = TypeVar("Result")


def over_batches(
    model: Model,
    pairs: PairSet,
    work: Callable[[Model, PairBatch], Result],
    *,
    batch_size: int | None = None,
    done: Bool[Tensor, " example"] | None = None,
    progress: str | None = None,
    engine: RayEngine | None = None,
) -> Iterator[tuple[PairBatch, Result]]:
    """Do `work` on every batch, longest first; out of memory halves the batch and says so.

    Args:
        model: the batches are on its device; pairs longer than its `longrope_window` share none
            with others.
        pairs: what to work on.
        work: is given the model and a batch. For an engine it can be pickled, and refers to the
            model by its argument alone.
        batch_size: most pairs in a batch; None takes the usual number, whether it fits or not.
        done: examples to leave out of their batches, which stay as they are otherwise.
        progress: the words beside a progress bar; None shows none.
        engine: whose workers do it; None does it in this process.

    Yields:
        Each batch with what `work` returned, in the same order whoever does it. What workers
        return, and its batch, are on the CPU.

    Raises:
        CircuitsError: for a batch size below 1, where one example alone does not fit, and where
            the engine has no worker.
    """
    if batch_size is None:
        batch_size = usual_batch_size(max(len(pair) for pair in pairs), len(pairs), model.device)
    if batch_size < 1:
        raise CircuitsError(f"batch size {batch_size}: it must be at least 1")
    left = torch.ones(len(pairs), dtype=torch.bool) if done is None else ~done
    batches = pairs.batches(batch_size, apart=model.longrope_window)
    rest = (batch.index[left[batch.index]].tolist() for batch in batches)
    queue = deque(index for index in rest if index)
    bar = tqdm(
        desc=progress,
        total=len(pairs),
        initial=len(pairs) - int(left.sum()),
        unit="pair",
        disable=progress is None,
    )
    hands = InProcess(model, work) if engine is None or not queue else hired(engine, model, work)
    with bar, hands:
        tickets: deque[Ticket[Result]] = deque()
        while queue or tickets:
            while queue and len(tickets) < hands.window:
                tickets.append(hands.give(pairs.batch(queue.popleft())))
            ticket = tickets.popleft()
            try:
                result = ticket.result()
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                halves = _halved(ticket.batch, error)
                tickets.extendleft(reversed([hands.give(pairs.batch(half)) for half in halves]))
                continue
            yield ticket.batch, result
            bar.update(len(ticket.batch))


def usual_batch_size(
    length: int, n: int, device: torch.device | str, tokens: int | None = None
) -> int:
    """Pairs at a time that speed has a use for, whether they fit or not.

    Args:
        length: tokens of the longest prompt.
        n: how many pairs there are.
        device: where they are run.
        tokens: most positions at a time, padding included; None takes 2,048 on a CPU, which gains
            nothing from more, and 8,192 elsewhere.

    Returns:
        At least 1, at most `n`.
    """
    tokens = tokens or _TOKENS.get(torch.device(device).type, _TOKENS_ELSEWHERE)
    return max(1, min(n, tokens // length))


def _halved(batch: PairBatch, error: Exception) -> list[list[int]]:
    index = batch.index.tolist()
    if len(index) == 1:
        raise CircuitsError(
            f"{batch.sources[0]}: out of memory with one example of {batch.clean.shape[1]} tokens; "
            "shorten the text, use dtype bfloat16, run layers again for gradients (--recompute), "
            "or take a larger device"
        ) from error
    _log.warning("out of memory with %d examples; going on with half as many", len(index))
    middle = len(index) // 2
    return [index[:middle], index[middle:]]
