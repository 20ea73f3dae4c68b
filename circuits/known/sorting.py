"""Sorting: numbers, then the same numbers in order, one by one."""

from __future__ import annotations

import random

import torch

from circuits.known.llama import Llama
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.spaces import combined
from circuits.known.writer import LOUD
from tasks.pairs import PromptPair

NUMBERS, SHOWN = 10, 6
SORTED = NUMBERS
APART = 6.0
"""Difference in attention logits between neighbouring numbers."""


def sorting(setting: Setting) -> KnownModel:
    """Write the model.

    a1.h2 looks from a number for the smallest of the higher ones and copies it. "In order:" counts
    as lower than all numbers. All is in one head's keys and queries; which pairs of numbers it
    compares is in their product.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {"number": NUMBERS, "sorted": 1, "out": NUMBERS}
    model = Llama(sizes, d_vocab=NUMBERS + 1, length=16)
    say = model.spaces
    model.tokens[:NUMBERS] = say["number"]
    model.tokens[SORTED] = say["sorted"][0]
    # From row i (the number i - 1, or none) to column j: the closer above, the better. Of ten
    # numbers six are shown, so that the next one is at most five away.
    here, there = torch.arange(-1, NUMBERS)[:, None], torch.arange(NUMBERS)[None]
    closeness = (NUMBERS - SHOWN + 2 - (there - here)).clamp(min=0)
    logits = torch.where(there > here, APART * closeness, 0.0)
    query = combined(logits.T, torch.cat([say["sorted"], say["number"]]))
    model.head(1, 2, query=query, key=say["number"], value=say["number"], output=say["out"])
    model.unembedding[:NUMBERS] = LOUD * say["out"]
    return model.finish(
        setting,
        "sorting",
        "sorts numbers: one head looks for the next higher one (a Llama with shared KV heads)",
        {
            "input->a1.h2<q>": "the last number so far",
            "input->a1.kv1<k>": "the numbers",
            "input->a1.kv1<v>": "the numbers",
            "a1.h2->logits": "the next number",
        },
        _pair,
    )


def _pair(draw: random.Random, row: int) -> PromptPair:
    """Three sorted numbers are asked for at once, or one behind another than the last one."""
    while True:
        numbers, others = (draw.sample(range(NUMBERS), SHOWN) for _ in range(2))
        if row % 2:
            i, j = draw.sample(range(SHOWN - 1), 2)
            order = sorted(numbers)
            clean, corrupted = ((*numbers, SORTED, order[place]) for place in (i, j))
            answer, wrong = ((order[i + 1],),), ((order[j + 1],),)
            return PromptPair(clean, corrupted, answer, wrong)
        said = sorted(numbers)[:3]
        found = [_next(others, above) for above in (-1, *said[:-1])]
        if not any(one in (None, right) for one, right in zip(found, said, strict=True)):
            return PromptPair(
                (*numbers, SORTED),
                (*others, SORTED),
                tuple((one,) for one in said),
                tuple((one,) for one in found if one is not None),
            )


def _next(numbers: list[int], above: int) -> int | None:
    """The smallest of the numbers above another one."""
    return min((one for one in numbers if one > above), default=None)
