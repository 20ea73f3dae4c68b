"""A negative head: it finds what is about to be said, and speaks against it."""

from __future__ import annotations

import random

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD, SHARP
from tasks.pairs import PromptPair

LETTERS, LENGTH = 10, 7
CUE, ASK = LETTERS, 2 * LETTERS
SUPPRESSED = 0.5


def negative_head(setting: Setting) -> KnownModel:
    """Write the model.

    a0.h1 copies the letter with the cue; a1.h3 looks for the letter that it says and writes half of
    it with the other sign (copy suppression, McDougall et al. 2023).

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {"letter": LETTERS, "mark": 2, "ask": 1, "out": LETTERS}
    model = GPT2(sizes, d_vocab=ASK + 1, length=LENGTH)
    say = model.spaces
    model.tokens[:LETTERS] = say["letter"] + say["mark"][0]
    model.tokens[CUE:ASK] = say["letter"] + say["mark"][1]
    model.tokens[ASK] = say["ask"][0]
    cue = say["mark"][1:]
    model.seek(0, 1, key=cue, value=say["letter"], output=say["out"])
    model.head(
        1, 3, query=SHARP * say["out"], key=say["letter"],
        value=say["letter"], output=-SUPPRESSED * say["out"],
    )  # fmt: skip
    model.unembedding[:LETTERS] = LOUD * say["out"]
    return model.finish(
        setting,
        "negative-head",
        "copies a letter, and a second head speaks against what the first one says",
        {
            "input->a0.h1<k>": "where the cue is",
            "input->a0.h1<v>": "the letters",
            "a0.h1->logits": "the letter",
            "a0.h1->a1.h3<q>": "what is about to be said; works against it",
            "input->a1.h3<k>": "the letters; works against the answer",
            "input->a1.h3<v>": "the letters; works against the answer",
            "a1.h3->logits": "less of the letter; works against the answer",
        },
        _pair,
    )


def _pair(draw: random.Random, row: int) -> PromptPair:
    """Distinct letters, one with the cue; the cue moves to another, or the two change places."""
    letters = draw.sample(range(LETTERS), LENGTH - 1)
    i, j = draw.sample(range(LENGTH - 1), 2)
    clean, corrupted = [*letters, ASK], [*letters, ASK]
    clean[i] += CUE
    if row % 2:
        corrupted[j] += CUE
    else:
        corrupted[i], corrupted[j] = letters[j] + CUE, letters[i]
    answers = ((letters[i],),), ((letters[j],),)
    return PromptPair(tuple(clean), tuple(corrupted), *answers)
