"""Greater-than (Hanna et al. 2023, "How does GPT-2 compute greater-than?").

"The war lasted from the year 1732 to the year 17" is followed by a two-digit token above 32. The
right answers are all of them, the wrong ones all of 00 to 32; the corrupted prompt has 01 in place
of 32, after which every token from 02 on is right. The metric is the probability of the right
tokens minus that of the wrong ones.

A tokenizer has to write a year as one token for its last two digits after whatever stands for the
century (" 17" and "32"), as GPT-2's does for most years; those that it writes otherwise (" 1776")
are not used. Splits share no event.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.errors import CircuitsError
from tasks.generated import Generated, Maker, Prompts
from tasks.task import Split
from tasks.text import continuation, encode
from tasks.words import of_split, words

TEMPLATE = "The {event} lasted from the year {century}{year:02d} to the year {century}"
CENTURIES = tuple(range(11, 18))
YEARS = range(2, 99)  # something is above, and the corrupted 01 is below
CORRUPTED = 1
_BEFORE = "the year"
_ALONE = "("  # merges with no digit


@dataclass(frozen=True)
class GreaterThan(Generated):
    """Greater-than on years: the answers are the two-digit tokens above the year's, the wrong
    answers all others.
    """

    name: ClassVar[str] = "greater-than"
    metric: ClassVar[str] = "probability-difference"

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        events = of_split(words("events"), split)
        years = _years(tokenizer)
        digits = _two_digits(tokenizer, years)
        usable = {
            century: [year for year in YEARS if year in tokens]
            for century, tokens in years.items()
            if CORRUPTED in tokens
        }
        centuries = [century for century, found in usable.items() if found]
        if not centuries:
            raise _refusal(tokenizer)

        def make(rng: random.Random) -> tuple[Prompts]:
            event, century = rng.choice(events), rng.choice(centuries)
            year = rng.choice(usable[century])
            return (
                Prompts(
                    clean=TEMPLATE.format(event=event, century=century, year=year),
                    corrupted=TEMPLATE.format(event=event, century=century, year=CORRUPTED),
                    answer=digits[year + 1 :],
                    wrong=digits[: year + 1],
                    names=(event, f"{century}{year:02d}"),
                ),
            )

        return make


def _years(tokenizer: PreTrainedTokenizerBase) -> dict[int, dict[int, int]]:
    """By century, the token of the last two digits of each year that ends in such a token."""
    found: dict[int, dict[int, int]] = defaultdict(dict)
    for century in CENTURIES:
        before = encode(tokenizer, f"{_BEFORE} {century}")
        texts = [f"{_BEFORE} {century}{year:02d}" for year in range(100)]
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for year, ids in enumerate(encoded):
            if tuple(ids[:-1]) == before:
                found[century][year] = ids[-1]
    return found


def _two_digits(
    tokenizer: PreTrainedTokenizerBase, years: dict[int, dict[int, int]]
) -> tuple[int, ...]:
    """The tokens of 00 to 99 as they stand after a century.

    00 is part of a larger token in every century of GPT-2's; standing alone it is the same token as
    it would be there, which the other numbers must show.
    """
    after: dict[int, set[int]] = defaultdict(set)
    for tokens in years.values():
        for year, token in tokens.items():
            after[year].add(token)
    alone = [continuation(tokenizer, _ALONE, f"{year:02d}") for year in range(100)]
    if after and all(tokens == {*alone[year]} for year, tokens in after.items()):
        after.update({year: {*ids} for year, ids in enumerate(alone)})
    digits = [token for year in range(100) for token in after[year]]
    if len(digits) != 100 or len(set(digits)) != 100:
        raise _refusal(tokenizer)
    return tuple(digits)


def _refusal(tokenizer: PreTrainedTokenizerBase) -> CircuitsError:
    return CircuitsError(
        "greater-than: this tokenizer does not write every two-digit number after a century as "
        f"one token of its own (' 1732' is {tokenizer.tokenize(' 1732')}; needed are ' 17' and "
        "'32', as GPT-2 has them); use another task, or a model with such a tokenizer"
    )
