"""Histogram: how often the last letter stands in the prompt."""

from __future__ import annotations

import random

import torch

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD, SHARP
from tasks.pairs import PromptPair

LETTERS, MOST, LENGTH = 8, 3, 8
START = LETTERS + MOST
SCALE = 10.0
"""What the start's attention is multiplied with: 2 and 3 letters leave 3.3 and 2.5."""


def histogram(setting: Setting) -> KnownModel:
    """Write the model.

    a0.h3 attends to the start and, as strongly, to each letter like the last one: of c such letters
    (the last one too) the start gets 1 / (1 + c). m0 turns that into a number.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {"letter": LETTERS, "start": 1, "share": 1, "out": MOST}
    model = GPT2(sizes, d_vocab=START + 1, length=LENGTH)
    say = model.spaces
    model.tokens[:LETTERS] = say["letter"]
    model.tokens[START] = say["start"][0]
    model.head(
        0, 3,
        query=SHARP * torch.cat([torch.zeros_like(say["start"]), say["letter"]]),
        key=torch.cat([say["start"], say["letter"]]),
        value=SCALE * say["start"], output=say["share"],
    )  # fmt: skip
    model.always(0, 3, torch.tensor([SHARP]))
    shares = SCALE / (1 + torch.arange(1.0, MOST + 1))  # of 1, 2, 3 letters
    between, gaps = (shares[:-1] + shares[1:]) / 2, shares[:-1] - shares[1:]
    for number in range(MOST - 1):  # each step takes the higher number's vector for the lower one's
        width = float(gaps[number]) / 2
        begin = between[number : number + 1] - width / 2
        change = say["out"][number : number + 1] - say["out"][number + 1 : number + 2]
        model.steps(0, say["share"], begin, width, change)
    model.neurons(0, torch.zeros_like(say["share"]), 1.0, say["out"][-1:])
    model.unembedding[LETTERS:START] = LOUD * say["out"]
    return model.finish(
        setting,
        "histogram",
        "says how often the last letter stands in the prompt, from how little attention is left",
        {
            "input->a0.h3<q>": "the last letter",
            "input->a0.h3<k>": "the letters",
            "a0.h3->m0": "the attention left for the start",
            "m0->logits": "the number",
        },
        _pair,
    )


def _pair(draw: random.Random, row: int) -> PromptPair:
    """Letters, among them the last one some times; then another number, or another last letter."""
    last, other = draw.sample(range(LETTERS), 2)
    rest = [letter for letter in range(LETTERS) if letter not in (last, other)]
    count, instead = draw.sample(range(1, MOST + 1), 2)
    places = LENGTH - 2

    def letters(some: list[int]) -> list[int]:
        return draw.sample([*some, *draw.choices(rest, k=places - len(some))], places)

    if row % 2:  # the last letter is another one, which stands there another number of times
        middle = letters([*[last] * (count - 1), *[other] * (instead - 1)])
        clean, corrupted = (START, *middle, last), (START, *middle, other)
    else:
        clean, corrupted = (
            (START, *letters([last] * (number - 1)), last) for number in (count, instead)
        )
    right, wrong = LETTERS + count - 1, LETTERS + instead - 1
    return PromptPair(clean, corrupted, ((right,),), ((wrong,),))
