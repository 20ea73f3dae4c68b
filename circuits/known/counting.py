"""Counting: how many of the letters are the one that is counted."""

from __future__ import annotations

import random

import torch

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD
from tasks.pairs import PromptPair

LETTERS, MOST, LENGTH = 6, 6, 8
COUNTED = 0
START, ASK = LETTERS + MOST + 1, LETTERS + MOST + 2


def counting(setting: Setting) -> KnownModel:
    """Write the model.

    a0.h0 attends to all places alike, so that it says the share of the counted letter; m0 turns the
    share into a number by steps that lie half-way between numbers. At a whole number every step is
    flat: gradients at the two ends of the path see nothing.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {"letter": LETTERS, "other": 2, "share": 1, "out": MOST + 1}
    model = GPT2(sizes, d_vocab=ASK + 1, length=LENGTH)
    say = model.spaces
    model.tokens[:LETTERS] = say["letter"]
    model.tokens[START], model.tokens[ASK] = say["other"]
    none = torch.zeros_like(say["share"])
    model.head(
        0, 0, query=none, key=none,
        value=LENGTH * say["letter"][COUNTED : COUNTED + 1], output=say["share"],
    )  # fmt: skip
    # Out of "fewer than n" into "n": each step takes one number's vector for the next one's.
    numbers = torch.arange(1, MOST + 1)
    change = say["out"].diff(dim=0)
    model.steps(0, say["share"].expand(MOST, -1), numbers - 0.75, 0.5, change)
    model.neurons(0, torch.zeros_like(say["share"]), 1.0, say["out"][:1])
    model.unembedding[LETTERS : LETTERS + MOST + 1] = LOUD * say["out"]
    return model.finish(
        setting,
        "counting",
        "counts one letter: a head averages, an MLP turns the average into a number",
        {
            "input->a0.h0<v>": "which letters are counted",
            "a0.h0->m0": "their share",
            "m0->logits": "the number",
        },
        _pair,
    )


def _pair(draw: random.Random, _row: int) -> PromptPair:
    """Six letters; the corrupted prompt has other numbers of the counted one at the same places."""

    def letters(count: int) -> list[int]:
        others = [draw.randrange(1, LETTERS) for _ in range(MOST - count)]
        return draw.sample([*[COUNTED] * count, *others], MOST)

    count, other = draw.sample(range(MOST + 1), 2)
    clean, corrupted = ((START, *letters(number), ASK) for number in (count, other))
    right, wrong = LETTERS + count, LETTERS + other
    return PromptPair(clean, corrupted, ((right,),), ((wrong,),))
