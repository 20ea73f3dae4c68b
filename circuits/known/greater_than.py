"""Greater than: which numbers may follow a number, known from two MLPs."""

from __future__ import annotations

import random

import torch

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.spaces import combined
from tasks.pairs import PromptPair

NUMBERS, FILLERS, LENGTH = 10, 5, 7
TO = NUMBERS + FILLERS
QUIET = 2.0
"""Logit that an MLP gives or takes: so low that neither MLP alone settles the answer."""


def greater_than(setting: Setting) -> KnownModel:
    """Write the model.

    a0.h2 finds the number and copies it; m0 has a neuron for each number, which speaks for all
    above it, m1 one that speaks against all others. As in "the war lasted from 1732 to 17"
    (Hanna, Liu and Variengien 2023), judged by the probability of right less wrong numbers.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {
        "number": NUMBERS,
        "is number": 1,
        "other": FILLERS + 1,
        "from": NUMBERS,
        "out": NUMBERS,
    }
    model = GPT2(sizes, d_vocab=TO + 1, length=LENGTH)
    say = model.spaces
    model.tokens[:NUMBERS] = say["number"] + say["is number"]
    model.tokens[NUMBERS:] = say["other"]
    model.seek(0, 2, key=say["is number"], value=say["number"], output=say["from"])
    above = torch.ones(NUMBERS, NUMBERS).triu(1)
    for layer, table in enumerate((above, above - 1)):
        model.neurons(layer, say["from"], -0.5, combined(2 * table, say["out"]))
    model.unembedding[:NUMBERS] = QUIET * say["out"]
    return model.finish(
        setting,
        "greater-than",
        "says which numbers are higher: one MLP speaks for them, another against the rest",
        {
            "input->a0.h2<v>": "the number",
            "a0.h2->m0": "the number",
            "a0.h2->m1": "the number",
            "m0->logits": "the higher numbers",
            "m1->logits": "the others, negative",
        },
        _pair,
        metric="probability-difference",
    )


def _pair(draw: random.Random, _row: int) -> PromptPair:
    """A number among fillers; the corrupted prompt has the lowest one, so that all may follow."""
    number, place = draw.randrange(1, NUMBERS - 1), draw.randrange(LENGTH - 1)
    fillers = [NUMBERS + draw.randrange(FILLERS) for _ in range(LENGTH - 1)]
    clean, corrupted = ((*fillers[:place], one, *fillers[place + 1 :], TO) for one in (number, 0))
    right = tuple(range(number + 1, NUMBERS))
    wrong = tuple(range(number + 1))
    return PromptPair(clean, corrupted, (right,), (wrong,))
