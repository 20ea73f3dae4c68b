"""Induction: a word that stood before another is followed by it again (Olsson et al. 2022).

A list of different nouns, and one of them again: behind "river chair stone river" comes "chair".
The list means nothing, so that nothing but the copy tells the answer.

Corruptions:
- `successor`: another noun follows the first mention; it is the wrong answer. One word differs.
- `cue`: another noun is mentioned the second time, whose own successor is the wrong answer.

Splits share no noun.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.errors import CircuitsError
from tasks.generated import Generated, Maker, Prompts, require_option
from tasks.named_splits import Split

CORRUPTIONS = ("successor", "cue")
LEAST, MOST = 4, 14


@dataclass(frozen=True)
class Induction(Generated):
    """Induction: the answer is the noun that followed the cue before, the wrong answer another of
    the list or instead of it; nouns are single tokens.

    corruption: successor (another noun follows the cue's first mention), or cue (another noun is
        the cue).
    length: nouns in the list, from 4 to 14; the cue comes behind them.
    """

    corruption: str = "successor"
    length: int = 10

    name: ClassVar[str] = "induction"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self.name, "corruption", self.corruption, CORRUPTIONS)
        if not LEAST <= self.length <= MOST:
            raise CircuitsError(f"induction: length={self.length}; it is from {LEAST} to {MOST}")

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        nouns = self._countables(tokenizer, split, self.length + 1)

        def make(rng: random.Random) -> tuple[Prompts]:
            *noun_list, other_noun = rng.sample(nouns, self.length + 1)
            index, other_index = rng.sample(range(self.length - 1), 2)
            cue, right = noun_list[index], noun_list[index + 1]
            corrupted_list, corrupted_cue = [*noun_list], cue
            if self.corruption == "successor":
                corrupted_list[index + 1] = wrong = other_noun
            else:
                corrupted_cue, wrong = noun_list[other_index], noun_list[other_index + 1]
            return (
                Prompts(
                    clean=f"The list: {' '.join([*noun_list, cue])}",
                    corrupted=f"The list: {' '.join([*corrupted_list, corrupted_cue])}",
                    answer=f" {right}",
                    wrong=f" {wrong}",
                    names=(right, wrong, cue),
                ),
            )

        return make
