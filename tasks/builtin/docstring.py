"""Docstrings (Heimersheim and Janiak 2023, "A circuit for Python docstrings in a 4-layer
attention-only transformer").

A function's documentation names its arguments in their order; after two of them the third follows.

Corruptions:
- `exchange`: in the definition the third and the last argument change places, so that the last one,
  the wrong answer, follows.
- `random`: the definition has four other names; nothing says which follows.

Splits share no name of an argument.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.generated import Generated, Maker, Prompts, require_option
from tasks.named_splits import Split

TEMPLATE = (
    'def {verb}(self, {arguments}):\n    """{said}\n\n'
    "    :param {one}: {about}\n    :param {two}: {beside}\n    :param"
)
VERBS = ("load", "send", "open", "read", "write", "start", "build", "check", "find", "make")
CORRUPTIONS = ("exchange", "random")
_LEAST = 14  # eight arguments, six words that describe


@dataclass(frozen=True)
class Docstring(Generated):
    """Docstrings: the answer is the definition's third argument, the wrong answer its last; names
    of arguments are nouns of one token.

    corruption: exchange (the two change places in the definition), or random (the definition has
        other names).
    """

    corruption: str = "exchange"

    name: ClassVar[str] = "docstring"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self.name, "corruption", self.corruption, CORRUPTIONS)

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        nouns = self._countables(tokenizer, split, _LEAST)

        def make(rng: random.Random) -> tuple[Prompts]:
            sampled_nouns = rng.sample(nouns, _LEAST)
            (first, second, third, last), other_arguments, description_words = (
                sampled_nouns[:4],
                sampled_nouns[4:8],
                sampled_nouns[8:],
            )
            corrupted_arguments = (
                [first, second, last, third] if self.corruption == "exchange" else other_arguments
            )
            slots = {
                "verb": rng.choice(VERBS),
                "said": " ".join(description_words[:2]),
                "about": " ".join(description_words[2:4]),
                "beside": " ".join(description_words[4:]),
                "one": first,
                "two": second,
            }
            clean = TEMPLATE.format(arguments=", ".join((first, second, third, last)), **slots)
            return (
                Prompts(
                    clean=clean,
                    corrupted=TEMPLATE.format(arguments=", ".join(corrupted_arguments), **slots),
                    answer=f" {third}",
                    wrong=f" {last}",
                    names=(third, last, first, second),
                ),
            )

        return make
