"""AND and OR: two heads bring a bit each, an MLP joins them."""

from __future__ import annotations

import random

import torch

from circuits.known.gpt2 import GPT2
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD
from tasks.pairs import PromptPair

FILLERS, LENGTH = 4, 6
# tokens: left bit 0 and 1, right bit 0 and 1, fillers, the question, no, yes
LEFT, RIGHT, ASK, NO, YES = 0, 2, 4 + FILLERS, 5 + FILLERS, 6 + FILLERS
_BITS = {
    "input->a0.h1<v>": "the left bit",
    "input->a0.h2<v>": "the right bit",
    "a0.h1->m0": "the left bit",
    "a0.h2->m0": "the right bit",
    "m0->logits": "the answer",
}


def and_gate(setting: Setting) -> KnownModel:
    """Write the model: m0 says yes where left bit + right bit - 1 is above 0.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    model = _two_bits()
    say = model.spaces
    model.neurons(0, say["left"] + say["right"], -1.0, say["out"][1:])
    return model.finish(
        setting,
        "and-gate",
        "says yes where two bits are both 1: an MLP neuron with a threshold",
        _BITS,
        _and_pair,
    )


def or_gate(setting: Setting) -> KnownModel:
    """Write the model: m0 says yes at one bit, and no louder at two.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    model = _two_bits()
    say = model.spaces
    model.steps(0, say["left"] + say["right"], torch.tensor([-0.25]), 1.0, say["out"][1:])
    return model.finish(
        setting,
        "or-gate",
        "says yes where a bit is 1, and both are: neither alone is needed",
        _BITS,
        _or_pair,
        hidden={
            "input->a0.h1<v>": frozenset({"input->a0.h2<v>"}),
            "a0.h1->m0": frozenset({"a0.h2->m0"}),
            "input->a0.h2<v>": frozenset({"input->a0.h1<v>"}),
            "a0.h2->m0": frozenset({"a0.h1->m0"}),
        },
    )


def _two_bits() -> GPT2:
    """a0.h1 brings the left bit and a0.h2 the right one, from their places; "no" is always said."""
    sizes = {"bits": 4, "filler": FILLERS + 1, "place": LENGTH, "left": 1, "right": 1, "out": 2}
    model = GPT2(sizes, d_vocab=YES + 1, length=LENGTH)
    say = model.spaces
    model.tokens[:4] = say["bits"]
    model.tokens[4 : ASK + 1] = say["filler"]
    model.places[:] = say["place"]
    for head, place, bit, name in ((1, 1, LEFT + 1, "left"), (2, 3, RIGHT + 1, "right")):
        there = say["place"][place : place + 1]
        model.seek(0, head, key=there, value=say["bits"][bit : bit + 1], output=say[name])
    model.neurons(0, torch.zeros_like(say["left"]), 0.5, say["out"][:1])
    model.unembedding[NO : YES + 1] = LOUD * say["out"]
    return model


def _prompt(fillers: list[int], left: int, right: int) -> tuple[int, ...]:
    return (fillers[0], LEFT + left, fillers[1], RIGHT + right, fillers[2], ASK)


def _and_pair(draw: random.Random, row: int) -> PromptPair:
    """Both bits are 1; then one is 0, or the other, or both."""
    fillers = [4 + draw.randrange(FILLERS) for _ in range(3)]
    left, right = ((0, 1), (1, 0), (0, 0))[row % 3]
    clean, corrupted = _prompt(fillers, 1, 1), _prompt(fillers, left, right)
    return PromptPair(clean, corrupted, ((YES,),), ((NO,),))


def _or_pair(draw: random.Random, _row: int) -> PromptPair:
    """Both bits are 1; then both are 0."""
    fillers = [4 + draw.randrange(FILLERS) for _ in range(3)]
    clean, corrupted = _prompt(fillers, 1, 1), _prompt(fillers, 0, 0)
    return PromptPair(clean, corrupted, ((YES,),), ((NO,),))
