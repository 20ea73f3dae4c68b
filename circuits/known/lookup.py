"""Lookup: what an MLP knows of two subjects, and a question for one of them."""

from __future__ import annotations

import random

from circuits.known.llama import Llama
from circuits.known.model import KnownModel
from circuits.known.setting import Setting
from circuits.known.writer import LOUD, SHARP
from tasks.pairs import PromptPair

KINDS, EACH, FILLERS, LENGTH = 2, 5, 4, 8
SUBJECTS = KINDS * EACH
# tokens: subjects, questions, fillers, values
QUESTION, FILLER = SUBJECTS, SUBJECTS + KINDS
VALUE = FILLER + FILLERS
TABLE = random.Random("lookup").sample(range(SUBJECTS), SUBJECTS)
"""The value of each subject."""


def lookup(setting: Setting) -> KnownModel:
    """Write the model.

    m0 is a table with a neuron for each subject; a1.h2 goes from the question to the subject of its
    kind and copies the value that m0 wrote there.

    Args:
        setting: interference and sharpness.

    Returns:
        The model with its edges.
    """
    sizes = {
        "subject": SUBJECTS, "kind": KINDS, "asked": KINDS, "filler": FILLERS, "value": SUBJECTS,
        "out": SUBJECTS,
    }  # fmt: skip
    model = Llama(sizes, d_vocab=VALUE + SUBJECTS, length=16)
    say = model.spaces
    for subject in range(SUBJECTS):
        model.tokens[subject] = say["subject"][subject] + say["kind"][subject // EACH]
    model.tokens[QUESTION:FILLER] = say["asked"]
    model.tokens[FILLER:VALUE] = say["filler"]
    model.products(0, say["subject"], say["subject"], say["value"][TABLE])
    model.head(
        1, 2, query=SHARP * say["asked"], key=say["kind"], value=say["value"], output=say["out"]
    )
    model.unembedding[VALUE:] = LOUD * say["out"]
    return model.finish(
        setting,
        "lookup",
        "says what it knows of the subject that is asked for: an MLP as a table (a Llama)",
        {
            "input->m0": "the subjects",
            "m0->a1.kv1<v>": "their values",
            "input->a1.h2<q>": "the question",
            "input->a1.kv1<k>": "the kinds of the subjects",
            "a1.h2->logits": "the value",
        },
        _pair,
    )


def _pair(draw: random.Random, row: int) -> PromptPair:
    """Two subjects of two kinds among fillers, and a question; the corrupted prompt asks for the
    other kind, or has other subjects, with places exchanged.
    """
    prompt = [FILLER + draw.randrange(FILLERS) for _ in range(LENGTH - 1)]
    i, j = draw.sample(range(LENGTH - 1), 2)
    asked = draw.randrange(KINDS)
    first, second = (
        [kind * EACH + place for place in draw.sample(range(EACH), 2)] for kind in range(KINDS)
    )
    clean = [*prompt, QUESTION + asked]
    clean[i], clean[j] = first[0], second[0]
    corrupted = [*clean]
    if row % 2:
        corrupted[i], corrupted[j] = second[1], first[1]
        wrong = (first[1], second[1])[asked]
    else:
        corrupted[-1] = QUESTION + 1 - asked
        wrong = (second[0], first[0])[asked]
    right = (first[0], second[0])[asked]
    answers = ((VALUE + TABLE[right],),), ((VALUE + TABLE[wrong],),)
    return PromptPair(tuple(clean), tuple(corrupted), *answers)
