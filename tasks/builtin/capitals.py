"""Countries and their capitals: a fact that the model has to know.

"The capital of France is" is followed by Paris. The corrupted prompt names another country, whose
capital is the wrong answer. A sentence before makes prompts different and says nothing of either.

Splits share no country, and `words.json` says which is in which: so few capitals are single tokens
of a small vocabulary that a hash would leave some splits empty.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.generated import Generated, Maker, Prompts
from tasks.named_splits import Split
from tasks.text.lexicon import of_one_length, single_tokens, words

OPENINGS = (
    "",
    "Here is a fact. ",
    "The guide told us this. ",
    "It is written in the travel book. ",
    "Remember this for the test. ",
    "The question is easy. ",
    "My uncle was right. ",
    "We looked at the map. ",
    "We played a game of questions. ",
    "There is one more thing to learn. ",
    "The letter ended with this. ",
    "The lesson begins. ",
    "Nobody was surprised. ",
    "The teacher wrote a sentence. ",
)
TEMPLATES = (
    "The capital of {country} is",
    "The capital city of {country} is",
    "The name of the capital of {country} is",
    "Everybody knows that the capital of {country} is",
    "The capital of {country} is called",
    "The capital of {country} is the city of",
    "The flight to the capital of {country} landed in",
    "The train to the capital of {country} arrived in",
    "If you go to {country}, you should see its capital,",
    "The best hotel in {country} is in the capital,",
)


@dataclass(frozen=True)
class Capitals(Generated):
    """Country and capital: the answer is the country's capital, the wrong answer that of another
    country; capitals are single tokens, and all countries of a set have equally many.
    """

    name: ClassVar[str] = "capitals"

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        capital_of = dict(pair.split(":") for pair in words(f"capitals_{split}"))
        cities = self._as_answers(tokenizer, list(capital_of.values()), 4)
        pool = f"capitals: of the capitals in the split {split!r}"
        usable_cities = set(single_tokens(tokenizer, cities, 4, pool))
        usable_countries = [
            country for country, city in capital_of.items() if city in usable_cities
        ]
        pool = f"capitals: of the countries in the split {split!r}"
        countries = of_one_length(tokenizer, usable_countries, 4, pool)

        def make(rng: random.Random) -> tuple[Prompts]:
            text = rng.choice(OPENINGS) + rng.choice(TEMPLATES)
            country, other_country = rng.sample(countries, 2)
            return (
                Prompts(
                    clean=text.format(country=country),
                    corrupted=text.format(country=other_country),
                    answer=f" {capital_of[country]}",
                    wrong=f" {capital_of[other_country]}",
                    names=(capital_of[country], capital_of[other_country], country, other_country),
                ),
            )

        return make
