"""Two mechanisms that add up: a letter read where it stands, and by way of an MLP."""

from __future__ import annotations

import random

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD
from tasks.pairs import PromptPair

LETTERS, LENGTH = 10, 7
ASK = LETTERS
FIRST, SECOND = 1, 4
"""The two places where the letter stands."""
SHIFT = 3


def adding_up(setting: Setting) -> KnownModel:
    """Write the model.

    a1.h0 copies the letter at the second place as the answer, a little quieter. a0.h3 copies the
    one at the first place as a letter SHIFT further on, and m1, a table, turns it back. Each alone
    is enough to say the letter; the logit is their sum.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {"letter": LETTERS, "ask": 1, "place": LENGTH, "shifted": LETTERS, "out": LETTERS}
    model = GPT2(sizes, d_vocab=LETTERS + 1, length=LENGTH)
    say = model.spaces
    model.tokens[:LETTERS] = say["letter"]
    model.tokens[ASK] = say["ask"][0]
    model.places[:] = say["place"]
    for layer, head, place, output in (
        (0, 3, FIRST, say["shifted"].roll(-SHIFT, 0)),
        (1, 0, SECOND, 0.8 * say["out"]),
    ):
        there = say["place"][place : place + 1]
        model.seek(layer, head, key=there, value=say["letter"], output=output)
    model.neurons(1, say["shifted"], -0.25, say["out"].roll(SHIFT, 0))
    model.unembedding[:LETTERS] = LOUD * say["out"]
    return model.finish(
        setting,
        "adding-up",
        "says a letter by two mechanisms whose logits add up, each of them enough",
        {
            "input->a0.h3<v>": "the letter at the first place",
            "a0.h3->m1": "the letter, shifted",
            "m1->logits": "the letter",
            "input->a1.h0<v>": "the letter at the second place",
            "a1.h0->logits": "the letter",
        },
        _pair,
    )


def _pair(draw: random.Random, _row: int) -> PromptPair:
    """One letter at both places; the corrupted prompt has another one at both."""
    letter, other, *rest = draw.sample(range(LETTERS), LENGTH - 1)
    clean = [rest[0], letter, rest[1], rest[2], letter, rest[3], ASK]
    corrupted = [other if token == letter else token for token in clean]
    return PromptPair(tuple(clean), tuple(corrupted), ((letter,),), ((other,),))
