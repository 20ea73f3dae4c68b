"""Who has won more titles? Two statements with numbers, and a question.

"Ronaldo has won 5 titles. Messi has won 8 titles. Question: who has won more titles? Answer:" is
followed by Messi. Names and numbers are drawn apart, so the prompts say nothing about the people.

Corruptions:
- `numbers`: the two numbers change places, and with them the answer. Only the numbers differ.
- `names`: the two names change places, and with them the answer. Only the names differ.
- `players`: two other players take the place of the two; neither the answer nor the wrong answer is
  in the corrupted prompt.

Splits share no pair of numbers, in whichever order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks import splits
from tasks.errors import CircuitsError
from tasks.generated import Generated, Maker, Prompts, require_option
from tasks.named_splits import Split
from tasks.text.lexicon import by_length, of_one_length, words

TEMPLATE = (
    "Here are the records of two players. {} has won {} titles. {} has won {} titles. "
    "Question: who has won more titles? Answer:"
)
ORIGINAL_PLAYERS, ORIGINAL_NUMBERS = ("Ronaldo", "Messi"), ("5", "8")
CORRUPTIONS = ("numbers", "names", "players")
ORDERS = ("both", "less-first", "more-first")
SOURCES = ("generated", "original")
NUMBERS = tuple(str(number) for number in range(2, 100))
LEAST_NUMBERS = 12  # of equally many tokens: where a digit is a token, those of two digits

Statement = tuple[str, str]  # surname, number of titles


@dataclass(frozen=True)
class Comparison(Generated):
    """Who has more titles: the answer is the surname with the larger number, the wrong answer the
    other one. All surnames of a set have equally many tokens, one if the tokenizer allows it, and
    so have all numbers.

    corruption: numbers (the two change places), names (they do), or players (two others stand
        there).
    order: less-first (the answer is named last), more-first, or both: each question in both orders,
        one pair after the other.
    source: generated; or original, the pair Ronaldo (5) and Messi (8) in every split.
    """

    corruption: str = "numbers"
    order: str = "both"
    source: str = "generated"

    name: ClassVar[str] = "comparison"
    one_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self.name, "corruption", self.corruption, CORRUPTIONS)
        require_option(self.name, "order", self.order, ORDERS)
        require_option(self.name, "source", self.source, SOURCES)

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        first_names = {
            surname: first_name
            for first_name, surname in (name.split() for name in words("players"))
        }
        if self.source == "original":
            players = _original_and_peers(tokenizer, list(first_names))
            numbers = [ORIGINAL_NUMBERS]
        else:
            surnames = self._as_answers(tokenizer, list(first_names), 4)
            players = of_one_length(tokenizer, surnames, 4, "comparison: of the surnames")
            numbers = _number_pairs(tokenizer, split)

        def make(rng: random.Random) -> Sequence[Prompts]:
            loser, winner, *other_players = rng.sample(players, 4)
            if self.source == "original":
                loser, winner, *other_players = (*ORIGINAL_PLAYERS, *rng.sample(players[2:], 2))
            fewer, more = rng.choice(numbers)
            less_first = ((loser, fewer), (winner, more))
            orders = {"less-first": [less_first], "more-first": [less_first[::-1]]}
            orders["both"] = [*orders["less-first"], *orders["more-first"]]
            return [
                Prompts(
                    clean=_text(*statements),
                    corrupted=_text(*self._corrupted(*statements, other_players)),
                    answer=f" {winner}",
                    wrong=f" {loser}",
                    names=(winner, loser, first_names[winner], first_names[loser]),
                )
                for statements in orders[self.order]
            ]

        return make

    def _corrupted(
        self, first_statement: Statement, second_statement: Statement, other_players: Sequence[str]
    ) -> tuple[Statement, Statement]:
        (name_1, titles_1), (name_2, titles_2) = first_statement, second_statement
        return {
            "numbers": ((name_1, titles_2), (name_2, titles_1)),
            "names": ((name_2, titles_1), (name_1, titles_2)),
            "players": ((other_players[0], titles_1), (other_players[1], titles_2)),
        }[self.corruption]


def _text(first_statement: Statement, second_statement: Statement) -> str:
    return TEMPLATE.format(*first_statement, *second_statement)


def _original_and_peers(tokenizer: PreTrainedTokenizerBase, surnames: Sequence[str]) -> list[str]:
    """The original's two players, and those of as many tokens."""
    for group in by_length(tokenizer, surnames).values():
        if set(ORIGINAL_PLAYERS) <= set(group) and len(group) >= 4:
            return [*ORIGINAL_PLAYERS, *(name for name in group if name not in ORIGINAL_PLAYERS)]
    raise CircuitsError(
        f"comparison: {' and '.join(ORIGINAL_PLAYERS)} and two other players do not have equally "
        "many tokens with this tokenizer; use the source 'generated'"
    )


def _number_pairs(tokenizer: PreTrainedTokenizerBase, split: Split) -> list[tuple[str, str]]:
    """Pairs of the split, the smaller number first, all of equally many tokens."""
    numbers = of_one_length(tokenizer, NUMBERS, LEAST_NUMBERS, "comparison: of the numbers")
    return [pair for pair in combinations(numbers, 2) if splits.part(" ".join(pair)) == split]
