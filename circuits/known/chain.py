"""A chain of heads: one that reads values from the one before, and one that reads keys from it."""

from __future__ import annotations

import random

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD, SHARP
from tasks.pairs import PromptPair

LETTERS, LENGTH = 12, 10


def chain(setting: Setting) -> KnownModel:
    """Write the model: "... A x B ... A" is followed by B.

    a0.h0 says of each place which letter stood before; a1.h1 looks one place back and copies what
    is said there, the letter two places back (value composition); a2.h2 looks for the place that
    has the last letter two places back (key composition) and copies the letter there.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {
        "letter": LETTERS, "place": LENGTH, "one back": LETTERS, "two back": LETTERS, "out": LETTERS
    }  # fmt: skip
    model = GPT2(sizes, d_vocab=LETTERS, length=LENGTH, layers=3, d_head=20)
    say = model.spaces
    model.tokens[:] = say["letter"]
    model.places[:] = say["place"]
    here, before = SHARP * say["place"][1:], say["place"][:-1]
    model.head(0, 0, query=here, key=before, value=say["letter"], output=say["one back"])
    model.head(1, 1, query=here, key=before, value=say["one back"], output=say["two back"])
    model.head(
        2, 2, query=SHARP * say["letter"], key=say["two back"],
        value=say["letter"], output=say["out"],
    )  # fmt: skip
    model.unembedding[:] = LOUD * say["out"]
    return model.finish(
        setting,
        "chain",
        "finds what stood two places behind a letter: heads composed by value, then by key",
        {
            "input->a0.h0<v>": "the letters",
            "a0.h0->a1.h1<v>": "the letter one place back",
            "a1.h1->a2.h2<k>": "the letter two places back",
            "input->a2.h2<q>": "the last letter",
            "input->a2.h2<v>": "the letters",
            "a2.h2->logits": "the letter",
        },
        _pair,
    )


def _pair(draw: random.Random, row: int) -> PromptPair:
    """Distinct letters, then one of them again; the corrupted prompt ends with another one, or has
    the two that are looked for exchanged, or the two that are found.
    """
    letters = draw.sample(range(LETTERS), LENGTH - 1)
    spots = range(1, LENGTH - 3)  # of the first letter, two places would say that it stood before
    i, j = draw.choice([(i, j) for i in spots for j in spots if abs(i - j) not in (0, 2)])
    clean = [*letters, letters[i]]
    corrupted = [*clean]
    if row % 3 == 0:
        corrupted[-1] = letters[j]
    else:
        step = 2 * (row % 3 - 1)
        corrupted[i + step], corrupted[j + step] = letters[j + step], letters[i + step]
    answers = ((letters[i + 2],),), ((letters[j + 2],),)
    return PromptPair(tuple(clean), tuple(corrupted), *answers)
