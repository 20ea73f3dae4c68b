"""Greedy decoding in batches, each prompt as if it were alone.

Prompts of unequal length are left-padded, so that every row's next token comes at the same place,
with the padding masked and each row's own positions given to the model: what a row attends to,
and where it believes itself to be, does not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.models.context_length import context_window
from circuits.tuning.batches import TunedModel, by_length
from circuits.tuning.loss import evaluating


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
    found: list[tuple[int, ...]] = [()] * len(prompts)
    with evaluating(model):
        for index in by_length([len(prompt) for prompt in prompts], batch_size):
            tokens = _decode(model, [prompts[i] for i in index], max_new_tokens, stop)
            n_ctx = context_window(model.config)
            for i, row in zip(index, tokens.tolist(), strict=True):
                room = max_new_tokens if n_ctx is None else n_ctx - len(prompts[i])
                found[i] = _until(row[:room], stop)
    return found


def _decode(
    model: TunedModel, prompts: Sequence[Sequence[int]], steps: int, stop: Collection[int]
) -> Int[Tensor, "batch new"]:
    width = max(len(prompt) for prompt in prompts)
    device = model.device
    tokens = torch.tensor([[*[0] * (width - len(p)), *p] for p in prompts], device=device)
    mask = torch.tensor([[i >= width - len(p) for i in range(width)] for p in prompts])
    mask = mask.long().to(device)
    n_ctx = context_window(model.config) or width + steps
    endings = torch.tensor(sorted(stop), dtype=torch.long, device=device)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    chosen: list[Tensor] = []
    cache = None
    for _ in range(steps):
        # A row past its context window goes on, clamped, until the others end; it is cut later.
        positions = (mask.cumsum(-1) - 1).clamp(0, n_ctx - 1)[:, -tokens.shape[1] :]
        output = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, tokens = output.past_key_values, output.logits[:, -1].argmax(-1, keepdim=True)
        chosen.append(tokens)
        ended |= torch.isin(tokens[:, 0], endings)
        if bool(ended.all()):
            break
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
    return torch.cat(chosen, dim=1)


def _until(row: Sequence[int], stop: Collection[int]) -> tuple[int, ...]:
    end = next((place for place, token in enumerate(row) if token in stop), len(row))
    return tuple(row[:end])
