"""Reversal: letters, a mirror, then the letters backwards."""

from __future__ import annotations

import random

import torch

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD, SHARP
from tasks.pairs import PromptPair

LETTERS, LENGTH = 10, 9
MIRROR = LETTERS
PLACES = (4, 5)
"""Where the mirror may stand."""


def reversal(setting: Setting) -> KnownModel:
    """Write the model.

    a0.h0 finds the mirror and says where it stands; m0 computes which place is as far before the
    mirror (a neuron for each mirror and place); a1.h1 goes there and copies the letter.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {
        "letter": LETTERS, "mirror": 1, "place": LENGTH, "at": LENGTH, "target": LENGTH,
        "out": LETTERS,
    }  # fmt: skip
    model = GPT2(sizes, d_vocab=LETTERS + 1, length=LENGTH)
    say = model.spaces
    model.tokens[:LETTERS] = say["letter"]
    model.tokens[MIRROR] = say["mirror"][0]
    model.places[:] = say["place"]
    model.seek(0, 0, key=say["mirror"], value=say["place"], output=say["at"])
    reads, writes = [], []
    for mirror in PLACES:
        for place in range(mirror, 2 * mirror):
            if place < LENGTH:
                reads.append(say["at"][mirror] + say["place"][place])
                writes.append(say["target"][2 * mirror - 1 - place])
    model.neurons(0, torch.stack(reads), -1.0, torch.stack(writes))
    model.head(
        1, 1, query=SHARP * say["target"], key=say["place"],
        value=say["letter"], output=say["out"],
    )  # fmt: skip
    model.unembedding[:LETTERS] = LOUD * say["out"]
    return model.finish(
        setting,
        "reversal",
        "says letters backwards: an MLP computes from two places the place to look at",
        {
            "input->a0.h0<k>": "where the mirror is",
            "a0.h0->m0": "its place",
            "m0->a1.h1<q>": "the place to look at",
            "input->a1.h1<v>": "the letters",
            "a1.h1->logits": "the letter",
        },
        _pair,
    )


def _pair(draw: random.Random, row: int) -> PromptPair:
    """Three letters are asked for at once, or one where mirror and next letter are exchanged."""
    letters = draw.sample(range(LETTERS), 5)
    if row % 2:
        (at, other), place = draw.sample(PLACES, 2), draw.choice((5, 6, 7))
        clean, corrupted = (
            (*letters[:mirror], MIRROR, *letters[mirror:], *letters)[: place + 1]
            for mirror in (at, other)
        )
        right, wrong = clean[2 * at - 1 - place], corrupted[2 * other - 1 - place]
        return PromptPair(clean, corrupted, ((right,),), ((wrong,),))
    shown = letters[: draw.choice(PLACES)]
    turn = draw.randrange(1, len(shown))
    moved = shown[turn:] + shown[:turn]
    said, instead = (tuple((letter,) for letter in some[:-4:-1]) for some in (shown, moved))
    return PromptPair((*shown, MIRROR), (*moved, MIRROR), said, instead)
