"""Hypernymy: what kind of thing something is (after Hanna et al. 2024, arXiv:2403.17806).

"There were apples, pears and other" is followed by "fruits". The corrupted prompt names things of
another kind, which is the wrong answer.

Splits share no pair of things; kinds are common to all, since there are few.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks import splits
from tasks.errors import CircuitsError
from tasks.generated import Generated, Maker, Prompts
from tasks.named_splits import Split
from tasks.text.lexicon import single_tokens, words

TEMPLATES = (
    "There were {one}, {two} and other",
    "They talked about {one}, {two} and other",
    "We know a lot about {one}, {two} and other",
    "The book is about {one}, {two} and other",
    "She likes {one}, {two} and many other",
    "The first page shows {one}, {two} and several other",
    "He has read much about {one}, {two} and all kinds of other",
    "The report names {one}, {two} and some other",
)
_LEAST = 4  # kinds
_WITHIN = {frozenset(("birds", "animals")), frozenset(("insects", "animals"))}
"""Kinds of which one holds the other: neither is wrong of the other's things."""


@dataclass(frozen=True)
class Hypernymy(Generated):
    """Hypernymy: the answer is the kind of two things, the wrong answer the kind of two others; all
    of these are single tokens.
    """

    name: ClassVar[str] = "hypernymy"

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        kind_of = dict(pair.split(":") for pair in words("kinds"))
        kinds = self._as_answers(tokenizer, sorted({*kind_of.values()}), _LEAST)
        usable_answers = {*single_tokens(tokenizer, kinds, _LEAST, "hypernymy: of the kinds")}
        things = single_tokens(tokenizer, list(kind_of), 2 * _LEAST, "hypernymy: of the things")
        members: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for thing in things:
            for other_thing in things:
                thing_pair = f"{min(thing, other_thing)} {max(thing, other_thing)}"
                if (
                    thing != other_thing
                    and kind_of[thing] == kind_of[other_thing]
                    and splits.part(thing_pair) == split
                ):
                    members[kind_of[thing]].append((thing, other_thing))
        usable_kinds = [kind for kind in members if kind in usable_answers]
        if len(usable_kinds) < _LEAST:
            raise CircuitsError(
                f"hypernymy: {len(usable_kinds)} of {len(kinds)} kinds have things of one token in "
                f"the split {split!r}, and at least {_LEAST} are needed"
            )

        def make(rng: random.Random) -> tuple[Prompts]:
            text, (kind, other_kind) = rng.choice(TEMPLATES), rng.sample(usable_kinds, 2)
            while frozenset((kind, other_kind)) in _WITHIN:
                kind, other_kind = rng.sample(usable_kinds, 2)
            (thing_1, thing_2), (other_thing_1, other_thing_2) = (
                rng.choice(members[kind]),
                rng.choice(members[other_kind]),
            )
            return (
                Prompts(
                    clean=text.format(one=thing_1, two=thing_2),
                    corrupted=text.format(one=other_thing_1, two=other_thing_2),
                    answer=f" {kind}",
                    wrong=f" {other_kind}",
                    names=(kind, other_kind, thing_1, thing_2, other_thing_1, other_thing_2),
                ),
            )

        return make
