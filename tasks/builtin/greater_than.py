"""Greater-than (Hanna et al. 2023, "How does GPT-2 compute greater-than?").

"The war lasted from the year 1732 to the year 17" is followed by a two-digit token above 32. The
right answers are all of them, the wrong ones all of 00 to 32; the corrupted prompt has 01 in place
of 32, after which every token from 02 on is right. The metric is the probability of the right
tokens minus that of the wrong ones.

A tokenizer has to write a year as one token for its last two digits after whatever stands for the
century (" 17" and "32"), as GPT-2's does for most years; those that it writes otherwise (" 1776")
are not used. Splits share no event.

With `digits=1`, for tokenizers that write every digit by itself (SmolLM2's, Gemma's, Qwen's) or
three together (Llama 3's, GPT-4's: "173" and "2"), the prompt goes on to the decade, "from the year
1734 to the year 173": right are 5 to 9, wrong 0 to 4, and the corrupted prompt has 1730.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.errors import CircuitsError
from tasks.generated import Generated, Maker, Prompts
from tasks.named_splits import Split
from tasks.text.lexicon import of_split, words
from tasks.text.tokens import continuation, encode

TEMPLATE = "The {event} lasted from the year {century}{year:02d} to the year {century}"
DECADES = "The {event} lasted from the year {decade}{year} to the year {decade}"
CENTURIES = tuple(range(11, 18))
YEARS = range(2, 99)  # something is above, and the corrupted 01 is below
CORRUPTED = 1
_BEFORE = "the year"
_ALONE = "("  # merges with no digit


@dataclass(frozen=True)
class GreaterThan(Generated):
    """Greater-than on years: the answers are the two-digit tokens above the year's, the wrong
    answers all others.

    digits: how many of the year's last digits are asked for, 2 (one token of two digits) or 1.
    """

    digits: int = 2

    name: ClassVar[str] = "greater-than"
    metric: ClassVar[str] = "probability-difference"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.digits not in (1, 2):
            raise CircuitsError(f"greater-than: digits={self.digits}; it is 1 or 2")

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        events = of_split(words("events"), split)
        if self.digits == 1:
            return _last_digit(tokenizer, events)
        years = _years(tokenizer)
        digits = _two_digits(tokenizer, years)
        usable_years = {
            century: [year for year in YEARS if year in tokens]
            for century, tokens in years.items()
            if CORRUPTED in tokens
        }
        centuries = [century for century, century_years in usable_years.items() if century_years]
        if not centuries:
            raise _refusal(tokenizer)

        def make(rng: random.Random) -> tuple[Prompts]:
            event, century = rng.choice(events), rng.choice(centuries)
            year = rng.choice(usable_years[century])
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


def _last_digit(tokenizer: PreTrainedTokenizerBase, events: Sequence[str]) -> Maker:
    """Prompts that go on to the decade, so that one digit is asked for."""
    decades = _decades(tokenizer)

    def make(rng: random.Random) -> tuple[Prompts]:
        event, decade = rng.choice(events), rng.choice(list(decades))
        year, digits = rng.randrange(1, 9), decades[decade]
        return (
            Prompts(
                clean=DECADES.format(event=event, decade=decade, year=year),
                corrupted=DECADES.format(event=event, decade=decade, year=0),
                answer=digits[year + 1 :],
                wrong=digits[: year + 1],
                names=(event, f"{decade}{year}"),
            ),
        )

    return make


def _decades(tokenizer: PreTrainedTokenizerBase) -> dict[int, tuple[int, ...]]:
    """By decade, the tokens of the digits 0 to 9 behind it, where each is one of its own."""
    by_decade = {}
    for decade in range(CENTURIES[0] * 10, (CENTURIES[-1] + 1) * 10):
        decade_ids = encode(tokenizer, f"{_BEFORE} {decade}")
        texts = [f"{_BEFORE} {decade}{digit}" for digit in range(10)]
        years_ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        if all(tuple(ids[:-1]) == decade_ids for ids in years_ids):
            digits = tuple(ids[-1] for ids in years_ids)
            if len(set(digits)) == len(digits):
                by_decade[decade] = digits
    if not by_decade:
        raise CircuitsError(
            "greater-than: this tokenizer does not write a year's last digit as a token of its own "
            f"({_written(tokenizer)}); use digits=2, or another task"
        )
    return by_decade


def _years(tokenizer: PreTrainedTokenizerBase) -> dict[int, dict[int, int]]:
    """By century, the token of the last two digits of each year that ends in such a token."""
    by_century: dict[int, dict[int, int]] = defaultdict(dict)
    for century in CENTURIES:
        century_ids = encode(tokenizer, f"{_BEFORE} {century}")
        texts = [f"{_BEFORE} {century}{year:02d}" for year in range(100)]
        years_ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for year, ids in enumerate(years_ids):
            if tuple(ids[:-1]) == century_ids:
                by_century[century][year] = ids[-1]
    return by_century


def _two_digits(
    tokenizer: PreTrainedTokenizerBase, years: dict[int, dict[int, int]]
) -> tuple[int, ...]:
    """The tokens of 00 to 99 as they stand after a century.

    00 is part of a larger token in every century of GPT-2's; standing alone it is the same token as
    it would be there, which the other numbers must show.
    """
    after_century: dict[int, set[int]] = defaultdict(set)
    for tokens in years.values():
        for year, token in tokens.items():
            after_century[year].add(token)
    alone_ids = [continuation(tokenizer, _ALONE, f"{year:02d}") for year in range(100)]
    if after_century and all(
        tokens == {*alone_ids[year]} for year, tokens in after_century.items()
    ):
        after_century.update({year: {*ids} for year, ids in enumerate(alone_ids)})
    digits = [token for year in range(100) for token in after_century[year]]
    if len(digits) != 100 or len(set(digits)) != 100:
        raise _refusal(tokenizer)
    return tuple(digits)


def _refusal(tokenizer: PreTrainedTokenizerBase) -> CircuitsError:
    try:
        _decades(tokenizer)
        advice = "digits=1 works with it"
    except CircuitsError:
        advice = "use another task"
    return CircuitsError(
        "greater-than: this tokenizer does not write every two-digit number after a century as "
        f"one token of its own ({_written(tokenizer)}; needed are ' 17' and '32', as GPT-2 has "
        f"them); {advice}"
    )


def _written(tokenizer: PreTrainedTokenizerBase) -> str:
    tokens = continuation(tokenizer, _BEFORE, " 1732")
    return f"' 1732' is {tokenizer.convert_ids_to_tokens(list(tokens))}"
