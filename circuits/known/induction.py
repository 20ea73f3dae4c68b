"""Induction: "... A B ... A" is followed by B."""

from __future__ import annotations

import random

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD, SHARP
from tasks.pairs import PromptPair

LETTERS, LENGTH = 12, 10


def induction(setting: Setting) -> KnownModel:
    """Write the model.

    a0.h0 says of each place which letter stood before; a1.h1 looks for the place behind the last
    letter and copies the letter there (Elhage et al. 2021).

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {"letter": LETTERS, "place": LENGTH, "one back": LETTERS, "out": LETTERS}
    model = GPT2(sizes, d_vocab=LETTERS, length=LENGTH)
    say = model.spaces
    model.tokens[:] = say["letter"]
    model.places[:] = say["place"]
    model.head(
        0, 0, query=SHARP * say["place"][1:], key=say["place"][:-1],
        value=say["letter"], output=say["one back"],
    )  # fmt: skip
    model.head(
        1, 1, query=SHARP * say["letter"], key=say["one back"],
        value=say["letter"], output=say["out"],
    )  # fmt: skip
    model.unembedding[:] = LOUD * say["out"]
    return model.finish(
        setting,
        "induction",
        "finds what stood behind a letter: a head that looks one place back, and one that matches",
        {
            "input->a0.h0<v>": "the letters",
            "a0.h0->a1.h1<k>": "the letter one place back",
            "input->a1.h1<q>": "the last letter",
            "input->a1.h1<v>": "the letters",
            "a1.h1->logits": "the letter",
        },
        _pair,
    )


def _pair(draw: random.Random, row: int) -> PromptPair:
    """Distinct letters, then one of them again; the corrupted prompt ends with another one, or has
    the two that are looked for exchanged, or the two that are found.
    """
    letters = draw.sample(range(LETTERS), LENGTH - 1)
    spots = range(1, LENGTH - 2)  # the first letter says of itself that it stood before
    i, j = draw.choice([(i, j) for i in spots for j in spots if abs(i - j) > 1])
    clean = [*letters, letters[i]]
    corrupted = [*clean]
    if row % 3 == 0:
        corrupted[-1] = letters[j]
    else:
        step = row % 3 - 1
        corrupted[i + step], corrupted[j + step] = letters[j + step], letters[i + step]
    answers = ((letters[i + 1],),), ((letters[j + 1],),)
    return PromptPair(tuple(clean), tuple(corrupted), *answers)
