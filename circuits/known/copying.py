"""Copying with distractors: the letter behind the right mark, among letters behind other marks."""

from __future__ import annotations

import random

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD, SHARP
from tasks.pairs import PromptPair

LETTERS, MARKS, LENGTH = 10, 3, 8
RIGHT = 0
ASK = LETTERS + MARKS


def copying(setting: Setting) -> KnownModel:
    """Write the model.

    a0.h1 looks one place back and says which mark stood there; a1.h2 looks for the right one and
    copies the letter that it stood before.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {"letter": LETTERS, "mark": MARKS, "place": LENGTH, "behind": MARKS, "out": LETTERS}
    model = GPT2(sizes, d_vocab=ASK + 1, length=LENGTH)
    say = model.spaces
    model.tokens[:LETTERS] = say["letter"]
    model.tokens[LETTERS:ASK] = say["mark"]
    model.places[:] = say["place"]
    model.head(
        0, 1, query=SHARP * say["place"][1:], key=say["place"][:-1],
        value=say["mark"], output=say["behind"],
    )  # fmt: skip
    sought = say["behind"][RIGHT : RIGHT + 1]
    model.seek(1, 2, key=sought, value=say["letter"], output=say["out"])
    model.unembedding[:LETTERS] = LOUD * say["out"]
    return model.finish(
        setting,
        "copying",
        "copies the letter behind one kind of mark, among letters behind other marks",
        {
            "input->a0.h1<v>": "the marks",
            "a0.h1->a1.h2<k>": "which mark stood before each letter",
            "input->a1.h2<v>": "the letters",
            "a1.h2->logits": "the letter",
        },
        _pair,
    )


def _pair(draw: random.Random, row: int) -> PromptPair:
    """A letter, three times a mark and a letter, the question; marks or letters are exchanged."""
    letters = draw.sample(range(LETTERS), 4)
    marks = [LETTERS + mark for mark in draw.sample(range(MARKS), MARKS)]
    right = marks.index(LETTERS + RIGHT)
    other = draw.choice([place for place in range(MARKS) if place != right])

    def prompt(marks: list[int], letters: list[int]) -> tuple[int, ...]:
        trio = [token for both in zip(marks, letters[:MARKS], strict=True) for token in both]
        return (letters[3], *trio, ASK)  # the first place would stand behind itself

    def exchanged(tokens: list[int]) -> list[int]:
        new = [*tokens]
        new[right], new[other] = tokens[other], tokens[right]
        return new

    clean = prompt(marks, letters)
    corrupted = prompt(exchanged(marks), letters) if row % 2 else prompt(marks, exchanged(letters))
    answers = ((letters[right],),), ((letters[other],),)
    return PromptPair(clean, corrupted, *answers)
