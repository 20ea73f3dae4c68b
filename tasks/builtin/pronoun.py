"""Gendered pronouns (after Mathwin et al. 2023, on "isn't he" and "isn't she" in GPT-2 small).

"So Mary is a good cook, isn't" is followed by "she". The corrupted prompt has a name of the other
gender, whose pronoun is the wrong answer. Only names that are given to one gender are used.

Splits share no name.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.generated import Generated, Maker, Prompts
from tasks.named_splits import Split
from tasks.text.lexicon import of_split, single_tokens, words

# No name begins a text: there it has other tokens than behind a space.
TEMPLATES = (
    "So {name} is a good {work}, isn't",
    "I think {name} was a very good {work}, wasn't",
    "They say that {name} is the best {work} in town, isn't",
    "Today {name} is tired, because last night",
    "It is long that {name} has worked as a {work}, and now",
    "We know that {name} became a {work} when",
    "Then {name} went home after",
    "Yesterday {name} told us that last year",
    "My neighbour {name} is a {work}, and every day",
)
WORKS = ("cook", "doctor", "teacher", "writer", "driver", "farmer", "lawyer", "player", "singer")
PRONOUNS = ("she", "he")


@dataclass(frozen=True)
class Pronoun(Generated):
    """Gendered pronouns: the answer is the pronoun of the name's gender, the wrong answer that of
    the other; names and pronouns are single tokens.
    """

    name: ClassVar[str] = "pronoun"

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        names = [
            single_tokens(
                tokenizer,
                of_split(words(f"{gender}_names"), split),
                2,
                f"pronoun: of the {gender} names in the split {split!r}",
            )
            for gender in ("female", "male")
        ]
        self._as_answers(tokenizer, PRONOUNS, 2)

        def make(rng: random.Random) -> tuple[Prompts]:
            text, work = rng.choice(TEMPLATES), rng.choice(WORKS)
            gender = rng.randrange(2)
            person, other_person = rng.choice(names[gender]), rng.choice(names[1 - gender])
            return (
                Prompts(
                    clean=text.format(name=person, work=work),
                    corrupted=text.format(name=other_person, work=work),
                    answer=f" {PRONOUNS[gender]}",
                    wrong=f" {PRONOUNS[1 - gender]}",
                    names=(person, other_person),
                ),
            )

        return make
