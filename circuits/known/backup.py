"""A backup head: it acts where the head before it has said nothing."""

from __future__ import annotations

import random

import torch

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD, SHARP
from tasks.pairs import PromptPair

LETTERS, LENGTH = 10, 7
PLAIN, CUE, SPARE = 0, LETTERS, 2 * LETTERS
"""A token is a letter and its mark: none, the cue, or the spare cue."""
START, ASK = 3 * LETTERS, 3 * LETTERS + 1


def backup(setting: Setting) -> KnownModel:
    """Write the model.

    a0.h0 copies the letter with the cue, and looks at the start, which says nothing, where there is
    no cue. a1.h2 copies the letter with the spare cue, but looks at the start where an answer is
    already there. When what leads a0.h0 to its letter is corrupted, a1.h2 says the same letter.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {"letter": LETTERS, "mark": 3, "other": 2, "out": LETTERS}
    model = GPT2(sizes, d_vocab=ASK + 1, length=LENGTH)
    say = model.spaces
    for mark, first in enumerate((PLAIN, CUE, SPARE)):
        model.tokens[first : first + LETTERS] = say["letter"] + say["mark"][mark]
    model.tokens[START], model.tokens[ASK] = say["other"]
    start, cue, spare = say["other"][:1], say["mark"][1:2], say["mark"][2:3]
    none = torch.zeros_like(start)
    model.head(
        0, 0, query=torch.cat([none, none]), key=torch.cat([start, cue]),
        value=say["letter"], output=say["out"],
    )  # fmt: skip
    model.always(0, 0, torch.tensor([SHARP, 2 * SHARP]))
    answered = 2 * SHARP * say["out"].sum(dim=0, keepdim=True)
    model.head(
        1, 2, query=torch.cat([answered, none]), key=torch.cat([start, spare]),
        value=say["letter"], output=say["out"],
    )  # fmt: skip
    model.always(1, 2, torch.tensor([0.0, SHARP]))
    model.unembedding[:LETTERS] = LOUD * say["out"]
    return model.finish(
        setting,
        "backup",
        "copies a letter; a backup head copies it from elsewhere if the first head is silent",
        {
            "input->a0.h0<k>": "where the cue is",
            "input->a0.h0<v>": "the letter with the cue",
            "a0.h0->logits": "the letter",
            "a0.h0->a1.h2<q>": "that there is an answer: it keeps the backup silent",
            "input->a1.h2<v>": "the letter with the spare cue",
            "a1.h2->logits": "the letter, in the corrupted run",
        },
        _pair,
        hidden={
            "input->a0.h0<k>": frozenset({"input->a1.h2<v>"}),
            "input->a1.h2<v>": frozenset({"input->a0.h0<k>"}),
        },
    )


def _pair(draw: random.Random, _row: int) -> PromptPair:
    """The letter stands there with the cue and with the spare cue; then another, with the spare."""
    letter, other, *rest = draw.sample(range(LETTERS), 5)
    i, j = draw.sample(range(1, LENGTH - 1), 2)
    clean, corrupted = ([START, *draw.choices(rest, k=LENGTH - 2), ASK] for _ in range(2))
    corrupted[:] = clean
    clean[i], clean[j] = CUE + letter, SPARE + letter
    corrupted[i], corrupted[j] = PLAIN + other, SPARE + other
    return PromptPair(tuple(clean), tuple(corrupted), ((letter,),), ((other,),))
