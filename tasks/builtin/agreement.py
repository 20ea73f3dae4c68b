"""Subject-verb agreement (Linzen, Dupoux and Goldberg 2016; Marvin and Linzen 2018).

"The keys near the cabinet" is followed by "are": the verb agrees with its subject, the first noun,
whatever the number of the noun right before it, the attractor.

Corruptions:
- `number`: the subject gets the other number, "The key near the cabinet", and the verb with it. One
  token differs.
- `noun`: another noun of the other number takes the subject's place.

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
from tasks.text.lexicon import by_length, of_split, words

TEMPLATES = {
    "phrase": (
        "The {subject} near the {attractor}",
        "The {subject} behind the {attractor}",
        "The {subject} next to the {attractor}",
        "The {subject} in front of the {attractor}",
        "The {subject} beside the {attractor}",
        "The {subject} across from the {attractor}",
        "They told us that the {subject} near the {attractor}",
        "We think that the {subject} behind the {attractor}",
    ),
    "clause": (
        "The {subject} that the {attractor} liked",
        "The {subject} that the {attractor} saw",
        "The {subject} that the {attractor} hit",
        "The {subject} that the {attractor} found",
        "They told us that the {subject} that the {attractor} saw",
        "We think that the {subject} that the {attractor} found",
    ),
}
VERBS = (("is", "are"), ("was", "were"), ("has", "have"))
CORRUPTIONS = ("number", "noun")
STRUCTURES = ("both", *TEMPLATES)
ATTRACTORS = ("any", "same", "other")
LEAST = 4  # nouns


@dataclass(frozen=True)
class Agreement(Generated):
    """Subject-verb agreement: the answer is the verb of the subject's number, the wrong answer that
    of the other; nouns and verbs are single tokens in both numbers.

    corruption: number (the subject gets the other number, and the verb with it), or noun (another
        noun of the other number).
    structure: phrase (the attractor stands in a prepositional phrase), clause (in a relative
        clause), or both, drawn.
    attractor: its number: any (drawn), same (as the subject's) or other.
    """

    corruption: str = "number"
    structure: str = "both"
    attractor: str = "any"

    name: ClassVar[str] = "agreement"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self.name, "corruption", self.corruption, CORRUPTIONS)
        require_option(self.name, "structure", self.structure, STRUCTURES)
        require_option(self.name, "attractor", self.attractor, ATTRACTORS)

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        nouns = _nouns(tokenizer, split)
        verbs = self._verbs(tokenizer)
        structures = tuple(TEMPLATES) if self.structure == "both" else (self.structure,)

        def make(rng: random.Random) -> tuple[Prompts]:
            template = rng.choice([text for kind in structures for text in TEMPLATES[kind]])
            subject, attractor, other_subject = rng.sample(nouns, 3)
            number, random_number = rng.randrange(2), rng.randrange(2)  # 1: plural
            attractor_number = {"any": random_number, "same": number, "other": 1 - number}[
                self.attractor
            ]
            verb = rng.choice(verbs)
            corrupted_subject = subject if self.corruption == "number" else other_subject
            slots = {"attractor": attractor[attractor_number]}
            return (
                Prompts(
                    clean=template.format(subject=subject[number], **slots),
                    corrupted=template.format(subject=corrupted_subject[1 - number], **slots),
                    answer=f" {verb[number]}",
                    wrong=f" {verb[1 - number]}",
                    names=(
                        subject[number],
                        attractor[attractor_number],
                        corrupted_subject[1 - number],
                    ),
                ),
            )

        return make

    def _verbs(self, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
        """The verbs that are single tokens in both numbers."""
        one_token = by_length(tokenizer, [form for verb in VERBS for form in verb]).get(1, {})
        answers = set(self._as_answers(tokenizer, list(one_token), 1))
        usable_verbs = [verb for verb in VERBS if answers.issuperset(verb)]
        if not usable_verbs:
            raise CircuitsError(
                "agreement: none of the verbs is, was and has is a single token of this tokenizer "
                "in both numbers"
            )
        return usable_verbs


def _nouns(tokenizer: PreTrainedTokenizerBase, split: Split) -> list[tuple[str, str]]:
    """The nouns of the split that are single tokens in both numbers, singular and plural."""
    all_nouns = [(singular, plural) for singular, plural in map(str.split, words("countables"))]
    split_singulars = set(of_split([singular for singular, _ in all_nouns], split))
    nouns = [noun for noun in all_nouns if noun[0] in split_singulars]
    one_token = by_length(tokenizer, [form for noun in nouns for form in noun]).get(1, {})
    usable_nouns = [noun for noun in nouns if all(form in one_token for form in noun)]
    if len(usable_nouns) < LEAST:
        raise CircuitsError(
            f"agreement: of the nouns in the split {split!r}, {len(usable_nouns)} of {len(nouns)} "
            f"are single tokens of this tokenizer in both numbers, and at least {LEAST} are needed"
        )
    return usable_nouns
