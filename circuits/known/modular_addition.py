"""Addition modulo 6: a table of products of two inputs, in a gated MLP."""

from __future__ import annotations

import random

import torch

from circuits.known.llama import Llama
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD, SHARP
from tasks.pairs import PromptPair

MODULUS, LENGTH, FILLERS = 6, 6, 4
# tokens: the first operand, the second, fillers, "=", the sums
FIRST, SECOND, FILLER, EQUALS = 0, MODULUS, 2 * MODULUS, 2 * MODULUS + FILLERS
SUM = EQUALS + 1


def modular_addition(setting: Setting) -> KnownModel:
    """Write the model.

    a0.h0 finds the first operand and a0.h2 the second. m0 has a neuron for each two of them: its
    gate is open where the first operand is right, and lets the second by.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {
        "operand": MODULUS, "which": 2, "other": FILLERS + 1, "first": MODULUS, "second": MODULUS,
        "out": MODULUS,
    }  # fmt: skip
    model = Llama(sizes, d_vocab=SUM + MODULUS, length=16)
    say = model.spaces
    for place, first in enumerate((FIRST, SECOND)):
        model.tokens[first : first + MODULUS] = say["operand"] + say["which"][place]
    model.tokens[FILLER : EQUALS + 1] = say["other"]
    equals = SHARP * say["other"][-1:]
    for head, place, name in ((0, 0, "first"), (2, 1, "second")):
        model.head(
            0, head, query=equals, key=say["which"][place : place + 1],
            value=say["operand"], output=say[name],
        )  # fmt: skip
    both = torch.cartesian_prod(torch.arange(MODULUS), torch.arange(MODULUS))
    a, b = both.T
    model.products(0, say["first"][a], say["second"][b], say["out"][(a + b) % MODULUS])
    model.unembedding[SUM:] = LOUD * say["out"]
    return model.finish(
        setting,
        "modular-addition",
        "adds two numbers modulo 6: a gated MLP multiplies what two heads bring (a Llama)",
        {
            "input->a0.kv0<v>": "the first operand",
            "input->a0.kv1<v>": "the second operand",
            "a0.h0->m0": "the first operand",
            "a0.h2->m0": "the second operand",
            "m0->logits": "the sum",
        },
        _pair,
    )


def _pair(draw: random.Random, row: int) -> PromptPair:
    """Two operands among fillers; one of them is another one, or the other, or both."""
    while True:
        a, b, c, d = (draw.randrange(MODULUS) for _ in range(4))
        c, d = ((a, d), (c, b), (c, d))[row % 3]
        if (a + b - c - d) % MODULUS:
            break
    i, j = draw.sample(range(LENGTH - 1), 2)
    clean = [FILLER + draw.randrange(FILLERS) for _ in range(LENGTH - 1)] + [EQUALS]
    corrupted = [*clean]
    clean[i], clean[j] = FIRST + a, SECOND + b
    corrupted[i], corrupted[j] = FIRST + c, SECOND + d
    answers = ((SUM + (a + b) % MODULUS,),), ((SUM + (c + d) % MODULUS,),)
    return PromptPair(tuple(clean), tuple(corrupted), *answers)
