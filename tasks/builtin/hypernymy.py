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
        listed = dict(pair.split(":") for pair in words("kinds"))
        kinds = self._as_answers(tokenizer, sorted({*listed.values()}), _LEAST)
        known = {*single_tokens(tokenizer, kinds, _LEAST, "hypernymy: of the kinds")}
        things = single_tokens(tokenizer, list(listed), 2 * _LEAST, "hypernymy: of the things")
        members: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for one in things:
            for two in things:
                both = f"{min(one, two)} {max(one, two)}"
                if one != two and listed[one] == listed[two] and splits.part(both) == split:
                    members[listed[one]].append((one, two))
        usable = [kind for kind in members if kind in known]
        if len(usable) < _LEAST:
            raise CircuitsError(
                f"hypernymy: {len(usable)} of {len(kinds)} kinds have things of one token in the "
                f"split {split!r}, and at least {_LEAST} are needed"
            )

        def make(rng: random.Random) -> tuple[Prompts]:
            text, (kind, other) = rng.choice(TEMPLATES), rng.sample(usable, 2)
            while frozenset((kind, other)) in _WITHIN:
                kind, other = rng.sample(usable, 2)
            (one, two), (three, four) = rng.choice(members[kind]), rng.choice(members[other])
            return (
                Prompts(
                    clean=text.format(one=one, two=two),
                    corrupted=text.format(one=three, two=four),
                    answer=f" {kind}",
                    wrong=f" {other}",
                    names=(kind, other, one, two, three, four),
                ),
            )

        return make
