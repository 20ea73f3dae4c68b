"""Majority: which of two letters stands there more often, by a threshold that two MLPs sharpen."""

from __future__ import annotations

import random

import torch

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD
from tasks.pairs import PromptPair

FILLERS, SHOWN, LENGTH = 4, 7, 8
ONE, OTHER, FILLER = 0, 1, 2
ASK = FILLER + FILLERS
SLOPE = 0.2
"""Width of the second step; the first one rises over one letter's difference."""


def majority(setting: Setting) -> KnownModel:
    """Write the model.

    a0.h1 attends to all places alike and says by how many one letter leads; m0 is a step at no
    lead, m1 a steeper step behind it. Between clean and corrupted the answer turns within a tenth
    of one letter's difference: nearly every gradient on the way is 0.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {"letter": 2 + FILLERS, "ask": 1, "lead": 1, "leads": 1, "out": 2}
    model = GPT2(sizes, d_vocab=ASK + 1, length=LENGTH)
    say = model.spaces
    model.tokens[:ASK] = say["letter"]
    model.tokens[ASK] = say["ask"][0]
    none = torch.zeros_like(say["lead"])
    model.head(
        0, 1, query=none, key=none,
        value=LENGTH * (say["letter"][:1] - say["letter"][1:2]), output=say["lead"],
    )  # fmt: skip
    model.steps(0, say["lead"], torch.tensor([-0.5]), 1.0, say["leads"])
    turn = say["out"][:1] - say["out"][1:]
    model.steps(1, say["leads"], torch.tensor([0.5 - SLOPE / 2]), SLOPE, turn)
    model.neurons(1, none, 1.0, say["out"][1:])
    model.unembedding[:2] = LOUD * say["out"]
    return model.finish(
        setting,
        "majority",
        "says which of two letters there are more of: a sharp threshold over two MLPs",
        {
            "input->a0.h1<v>": "the letters",
            "a0.h1->m0": "by how many one of them leads",
            "m0->m1": "that it leads",
            "m1->logits": "the letter",
        },
        _pair,
    )


def _pair(draw: random.Random, _row: int) -> PromptPair:
    """Two letters in different numbers among fillers; then the other one leads."""
    leader, other = draw.sample((ONE, OTHER), 2)

    def prompt(more: int, less: int) -> tuple[int, ...]:
        few = draw.randrange(3)
        many = draw.randrange(few + 1, SHOWN - few + 1)
        rest = [FILLER + draw.randrange(FILLERS) for _ in range(SHOWN - few - many)]
        return (*draw.sample([*[more] * many, *[less] * few, *rest], SHOWN), ASK)

    clean, corrupted = prompt(leader, other), prompt(other, leader)
    return PromptPair(clean, corrupted, ((leader,),), ((other,),))
