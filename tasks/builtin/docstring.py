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
from tasks.text.lexicon import of_split, single_tokens, words

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
        listed = of_split([noun.split()[0] for noun in words("countables")], split)
        listed = self._as_answers(tokenizer, listed, _LEAST)
        what = f"docstring: of the nouns in the split {split!r}"
        nouns = single_tokens(tokenizer, listed, _LEAST, what)

        def make(rng: random.Random) -> tuple[Prompts]:
            drawn = rng.sample(nouns, _LEAST)
            (one, two, three, last), others, about = drawn[:4], drawn[4:8], drawn[8:]
            changed = [one, two, last, three] if self.corruption == "exchange" else others
            shared = {
                "verb": rng.choice(VERBS),
                "said": " ".join(about[:2]),
                "about": " ".join(about[2:4]),
                "beside": " ".join(about[4:]),
                "one": one,
                "two": two,
            }
            clean = TEMPLATE.format(arguments=", ".join((one, two, three, last)), **shared)
            return (
                Prompts(
                    clean=clean,
                    corrupted=TEMPLATE.format(arguments=", ".join(changed), **shared),
                    answer=f" {three}",
                    wrong=f" {last}",
                    names=(three, last, one, two),
                ),
            )

        return make
