"""Indirect object identification (Wang et al. 2022, "Interpretability in the Wild", appendix E).

"Then, Mary and John went to the store. John gave a drink to" is followed by Mary: IO is Mary, the
indirect object, S is John, the subject, who is named twice. ABBA has IO first, BABA has S first.

Corruptions:
- `abc`: three other names in the three places, the paper's p_ABC: the template without the answer.
- `swap`: the second S becomes IO, one token: "Mary gave a drink to" is followed by John.

Splits share no name.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.generated import Generated, Maker, Prompts, require_option
from tasks.named_splits import Split
from tasks.text.lexicon import of_split, single_tokens, words

# one, two: the two names in the order in which they stand; giver: the second mention of S.
TEMPLATES = (
    "Then, {one} and {two} went to the {place}. {giver} gave a {object} to",
    "Then, {one} and {two} had a lot of fun at the {place}. {giver} gave a {object} to",
    "Then, {one} and {two} were working at the {place}. {giver} decided to give a {object} to",
    "Then, {one} and {two} were thinking about going to the {place}. {giver} wanted to give a "
    "{object} to",
    "Then, {one} and {two} had a long argument, and afterwards {giver} said to",
    "After {one} and {two} went to the {place}, {giver} gave a {object} to",
    "When {one} and {two} got a {object} at the {place}, {giver} decided to give it to",
    "When {one} and {two} got a {object} at the {place}, {giver} decided to give the {object} to",
    "While {one} and {two} were working at the {place}, {giver} gave a {object} to",
    "While {one} and {two} were commuting to the {place}, {giver} gave a {object} to",
    "After the lunch, {one} and {two} went to the {place}. {giver} gave a {object} to",
    "Afterwards, {one} and {two} went to the {place}. {giver} gave a {object} to",
    "Then, {one} and {two} had a long argument. Afterwards {giver} said to",
    "The {place} {one} and {two} went to had a {object}. {giver} gave it to",
    "Friends {one} and {two} found a {object} at the {place}. {giver} gave it to",
)
CORRUPTIONS = ("abc", "swap")
ORDERS = ("both", "abba", "baba")


@dataclass(frozen=True)
class IOI(Generated):
    """Indirect object identification: the answer is IO, the wrong answer S, both single tokens.

    corruption: abc (three other names in the three places), or swap (the giver becomes the other
        one, and so does the answer).
    order: abba (IO first), baba (S first), or both, drawn.
    """

    corruption: str = "abc"
    order: str = "both"

    name: ClassVar[str] = "ioi"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self.name, "corruption", self.corruption, CORRUPTIONS)
        require_option(self.name, "order", self.order, ORDERS)

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        first_names = of_split(words("first_names"), split)
        first_names = self._as_answers(tokenizer, first_names, 5)
        names = single_tokens(
            tokenizer, first_names, 5, f"ioi: of the names in the split {split!r}"
        )

        def make(rng: random.Random) -> tuple[Prompts]:
            template = rng.choice(TEMPLATES)
            scene = {"place": rng.choice(words("places")), "object": rng.choice(words("objects"))}
            io, s, *other_names = rng.sample(names, 5)
            order = rng.choice(("abba", "baba"))  # drawn even if given: the names stay the same
            order = order if self.order == "both" else self.order
            name_1, name_2 = (io, s) if order == "abba" else (s, io)
            abc = dict(zip(("one", "two", "giver"), other_names, strict=True))
            swapped = {"one": name_1, "two": name_2, "giver": io}
            return (
                Prompts(
                    clean=template.format(one=name_1, two=name_2, giver=s, **scene),
                    corrupted=template.format(
                        **(abc if self.corruption == "abc" else swapped), **scene
                    ),
                    answer=f" {io}",
                    wrong=f" {s}",
                    names=(io, s, *other_names),
                ),
            )

        return make
