"""Copying a surname from the text: it introduces Michelle Jones, and later says "Michelle".

The name is in the prompt. What a model knows of a person from its weights is not asked.

Between the introduction and the second mention stand filler sentences that name nobody.

Corruptions:
- `surname`: the introduction has another surname (Smith), which is the wrong answer.
- `first-name`: the introduction has another first name, so that nothing is known of Michelle.

Splits share no first name.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.errors import CircuitsError
from tasks.generated import Generated, Maker, Prompts, require_option
from tasks.named_splits import Split
from tasks.text.lexicon import of_one_length, of_split, words

ORIGINAL = "{} {} was a top-notch student."
INTRODUCTIONS = (
    "Everybody in the village knew {} {}.",
    "The prize went to {} {}.",
    "The letter was signed by {} {}.",
    "Our new neighbour is called {} {}.",
    "The first to speak was {} {}.",
    "The whole report is about {} {}.",
    "The school has a new teacher, {} {}.",
    "In the second row sat {} {}.",
)
FILLERS = (
    "It rained all morning.",
    "The shops were closed.",
    "Nobody was surprised by the news.",
    "The train was an hour late.",
    "There was not much to see.",
    "The coffee had gone cold.",
    "A dog slept in front of the door.",
    "The old clock on the wall had stopped.",
    "Later the sun came out.",
    "The windows had to be painted again.",
    "It took longer than expected.",
    "The music was too loud.",
    "Most of the seats were empty.",
    "The road to the coast was blocked.",
    "Somebody had left the light on.",
    "The garden was full of flowers.",
)
MENTIONS = ("{}", "The last word came from {}", "Then we met {}", "All of them thanked {}")
CORRUPTIONS = ("surname", "first-name")
SOURCES = ("generated", "original")
FARTHEST = 4  # filler sentences, where their number is drawn


@dataclass(frozen=True)
class NameCopying(Generated):
    """Copying a surname: the answer is the surname of the introduction, the wrong answer another
    one. All first names of a set have equally many tokens, one if the tokenizer allows it, and so
    have all surnames.

    corruption: surname (the other surname is introduced), or first-name (somebody else is).
    distance: filler sentences between introduction and mention; drawn, 0 to 4, when not given.
    source: generated; or original, "Michelle Jones was a top-notch student. Michelle", with Smith
        as the other surname and Laura as the other first name, in every split.
    """

    corruption: str = "surname"
    distance: int | None = None
    source: str = "generated"

    name: ClassVar[str] = "name-copying"
    one_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self.name, "corruption", self.corruption, CORRUPTIONS)
        require_option(self.name, "source", self.source, SOURCES)
        if self.distance is not None and not 0 <= self.distance <= len(FILLERS):
            raise CircuitsError(
                f"{self.name}: distance {self.distance}; there are 0 to {len(FILLERS)} filler "
                "sentences"
            )

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        if self.source == "original":
            distance = self.distance or 0
            return lambda rng: [
                self._prompts(
                    ORIGINAL,
                    rng.sample(FILLERS, distance),
                    "{}",
                    ("Michelle", "Laura"),
                    ("Jones", "Smith"),
                )
            ]
        split_names = of_split(words("first_names"), split)
        first_names = of_one_length(
            tokenizer, split_names, 4, f"{self.name}: of the first names in the split {split!r}"
        )
        surname_words = self._as_answers(tokenizer, words("surnames"), 4)
        surnames = of_one_length(tokenizer, surname_words, 4, f"{self.name}: of the surnames")

        def make(rng: random.Random) -> Sequence[Prompts]:
            distance = rng.randint(0, FARTHEST) if self.distance is None else self.distance
            introduction, fillers = rng.choice(INTRODUCTIONS), rng.sample(FILLERS, distance)
            mention, first_two = rng.choice(MENTIONS), rng.sample(first_names, 2)
            last_two = rng.sample(surnames, 2)
            while set(first_two) & set(last_two):  # Scott Taylor, Taylor Scott
                last_two = rng.sample(surnames, 2)
            return [self._prompts(introduction, fillers, mention, first_two, last_two)]

        return make

    def _prompts(
        self,
        introduction: str,
        fillers: Sequence[str],
        mention: str,
        first_names: Sequence[str],
        surnames: Sequence[str],
    ) -> Prompts:
        (first_name, other_first_name), (surname, other_surname) = first_names, surnames
        context = " ".join([*fillers, mention.format(first_name)])
        other_person = (
            (first_name, other_surname)
            if self.corruption == "surname"
            else (other_first_name, surname)
        )
        return Prompts(
            clean=f"{introduction.format(first_name, surname)} {context}",
            corrupted=f"{introduction.format(*other_person)} {context}",
            answer=f" {surname}",
            wrong=f" {other_surname}",
            names=(surname, other_surname, first_name, other_first_name),
        )
