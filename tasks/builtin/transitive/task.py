"""The transitive property problem with random nouns.

"a is b. b is c. a is" is followed by c. The nouns are drawn at random, so nothing that a model
knows of them helps: what it has to do is follow two links. Every noun is one token, so a, b and c
stand at the same positions in all prompts of a template.

Corruptions, all of which keep every noun in its slot and change as little as they can:
- `exchange`: b and c change places, "a is c. c is b. a is". Same words, same last position, and the
  transitive answer is now b: clean minus corrupted holds which of the two follows, nothing else.
- `replace`: c becomes a fourth noun d, one token. The answer moves from c to d.
- `unlink`: the second b becomes d, one token: "a is b. d is c. a is". Both candidates are still in
  the prompt, and no link leads from a to c.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.builtin.transitive.nouns import noun_files, read_nouns
from tasks.errors import CircuitsError
from tasks.generated import Generated, Maker, Prompts, require_option
from tasks.named_splits import Split
from tasks.pairs import PairSet, TrainingExample
from tasks.text.lexicon import of_split, single_tokens

# {x} stands where the corruption `unlink` puts d. The first begins with a space, as a noun at the
# very beginning would be another token than the same noun elsewhere.
TEMPLATES = (
    " {a} is {b}. {x} is {c}. {a} is",
    "If {a} is {b} and {x} is {c}, then {a} is",
    "Since {a} is {b} and {x} is {c}, {a} is",
    "We know that {a} is {b}. We also know that {x} is {c}. So {a} is",
    "Every {a} is {b}. Every {x} is {c}. Therefore every {a} is",
    "Given that {a} is {b} and that {x} is {c}, it follows that {a} is",
    "It is true that {x} is {c}. It is true that {a} is {b}. Hence {a} is",
)
CORRUPTIONS = ("exchange", "replace", "unlink")
LOSSES = ("answer", "text")
EVALUATION: Mapping[Split, int] = {"validation": 1150, "test": 3000}
"""Sizes of the original's evaluation sets: a circuit is searched for on the smaller and judged on
the larger.
"""


@dataclass(frozen=True)
class Transitive(Generated):
    """The transitive property problem: the answer is c, the wrong answer b.

    corruption: exchange (b and c change places), replace (c becomes another noun), or unlink (the
        second b does, so that nothing leads from a to c).
    nouns: own, wordnet (nltk's), or a text file with one noun a line.
    template: one of 1 to 7 alone, or all of them when not given.
    fraction: share of the training examples asked for that `examples` gives, the first of them: the
        10 % of one seed is inside its 30 %. Other splits are not cut.
    loss: what a model is trained on, the answer alone or the whole text.
    """

    corruption: str = "exchange"
    nouns: str | Path = "own"
    template: int | None = None
    fraction: float = 1.0
    loss: str = "answer"

    name: ClassVar[str] = "transitive"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self.name, "corruption", self.corruption, CORRUPTIONS)
        require_option(self.name, "loss", self.loss, LOSSES)
        if self.template is not None and self.template not in range(1, len(TEMPLATES) + 1):
            raise CircuitsError(
                f"transitive: no template {self.template!r}; they are 1 to {len(TEMPLATES)}"
            )
        if not 0 < self.fraction <= 1:
            raise CircuitsError(
                f"transitive: fraction {self.fraction}; it must be above 0 and at most 1, as in 0.1"
            )

    def pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None = None,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> PairSet:
        """`n` pairs. Without `n`, the original's evaluation sets: 1,150 of `validation`, 3,000 of
        `test`.
        """
        if n is None and split not in EVALUATION:
            raise CircuitsError(
                f"transitive: say how many pairs of the split {split!r}; without a number there "
                f"are {' and '.join(f'{size} of {name}' for name, size in EVALUATION.items())}"
            )
        n = EVALUATION[split] if n is None else n
        return super().pairs(tokenizer, n, split=split, seed=seed, n_ctx=n_ctx)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file of nouns, if they come from one."""
        return noun_files(self.nouns)

    def examples(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> list[TrainingExample]:
        """The clean prompts of `pairs` with their answers; of `train`, the `fraction` of `n`."""
        n_pairs = max(1, round(self.fraction * n)) if split == "train" and n > 0 else n
        examples = []
        for pair in self.pairs(tokenizer, n_pairs, split=split, seed=seed, n_ctx=n_ctx):
            text = (*pair.clean, pair.answer[0][0])
            start = 1 if self.loss == "text" else len(pair.clean)
            examples.append(TrainingExample(text[:start], text[start:], pair.source))
        return examples

    @cached_property
    def _nouns(self) -> tuple[str, ...]:
        return read_nouns(self.nouns)

    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        pool = f"transitive: of the nouns {str(self.nouns)!r} in the split {split!r}"
        split_nouns = self._as_answers(tokenizer, of_split(self._nouns, split), 4)
        nouns = single_tokens(tokenizer, split_nouns, 4, pool)

        def make(rng: random.Random) -> tuple[Prompts]:
            template = rng.choice(TEMPLATES)  # drawn even if given: the nouns stay the same
            if self.template is not None:
                template = TEMPLATES[self.template - 1]
            a, b, c, d = rng.sample(nouns, 4)
            corrupted = {
                "exchange": {"a": a, "b": c, "x": c, "c": b},
                "replace": {"a": a, "b": b, "x": b, "c": d},
                "unlink": {"a": a, "b": b, "x": d, "c": c},
            }[self.corruption]
            return (
                Prompts(
                    clean=template.format(a=a, b=b, x=b, c=c),
                    corrupted=template.format(**corrupted),
                    answer=f" {c}",
                    wrong=f" {b}",
                    names=(c, b, a),
                ),
            )

        return make
