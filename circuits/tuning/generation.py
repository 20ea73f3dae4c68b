"""Greedy decoding in batches by `model.generate`, each prompt as if it were alone.

Prompts of unequal length are left-padded, so that every row's next token comes at the same place,
with the padding masked: what a row attends to, and where it believes itself to be, does not depend
on the rows beside it. Where one row of a batch reaches the end of the context window, the others
are taken up again without it. What a checkpoint's own generation settings ask for (sampling,
penalties, tokens that must not come) is left out: the most probable token is the next one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from circuits.models.context_length import context_window
from circuits.tuning.batches import by_length, without_adapter
from circuits.tuning.loss import evaluating

if TYPE_CHECKING:
    from circuits.tuning.tuned_model import TunedModel

_ENDLESS = 2**31
_PADDING = 0  # masked, so that any token would do


def generate(
    model: TunedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop: Collection[int] = (),
    batch_size: int = 32,
) -> list[tuple[int, ...]]:
    """The most probable continuation token by token, for each prompt, in the order given.

    A continuation ends before the first token of `stop`, after `max_new_tokens`, or where the
    model's context window ends.
    """
    plain = without_adapter(model)
    n_ctx = context_window(model.config) or _ENDLESS
    continuations: list[tuple[int, ...]] = [()] * len(prompts)
    with evaluating(model), _plain_generation(plain):
        for index in by_length([len(prompt) for prompt in prompts], batch_size):
            going = {i: tuple(prompts[i]) for i in index}
            while going:
                room = {i: n_ctx - len(text) for i, text in going.items()}
                steps = min(max_new_tokens - len(continuations[next(iter(going))]), *room.values())
                new = _decode(plain, list(going.values()), steps, stop)
                for i, tokens in zip(list(going), new, strict=True):
                    continuations[i] += tokens
                    going[i] += tokens
                    ended = len(tokens) < steps or len(continuations[i]) == max_new_tokens
                    if ended or len(going[i]) == n_ctx:
                        del going[i]
    return continuations


def _decode(
    model: PreTrainedModel, texts: Sequence[Sequence[int]], steps: int, stop: Collection[int]
) -> list[tuple[int, ...]]:
    """What follows each text, `steps` tokens or fewer where one of `stop` came."""
    width = max(map(len, texts))
    tokens = [[*[_PADDING] * (width - len(text)), *text] for text in texts]
    mask = [[0] * (width - len(text)) + [1] * len(text) for text in texts]
    generated: Tensor = model.generate(  # type: ignore[operator]  # a mixin's, to mypy a tensor
        torch.tensor(tokens, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        generation_config=GenerationConfig(
            max_new_tokens=steps,
            do_sample=False,
            eos_token_id=sorted(stop) or None,
            pad_token_id=_PADDING,
        ),
    )
    return [_until(row[width:], stop) for row in generated.tolist()]


def _until(row: Sequence[int], stop: Collection[int]) -> tuple[int, ...]:
    end = next((position for position, token in enumerate(row) if token in stop), len(row))
    return tuple(row[:end])


@contextmanager
def _plain_generation(model: PreTrainedModel) -> Iterator[None]:
    """Without the checkpoint's own settings, which fill in whatever a call leaves open."""
    saved_config = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = saved_config
