"""Tasks whose prompts are made from templates and word lists, without limit and without a file.

A task says how one draw becomes prompts in words; here they are drawn, kept apart, tokenised and
checked. The draws of one seed form one sequence, no prompt twice: a larger `n` extends a smaller.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks.errors import CircuitsError, TooFewError, error_context
from tasks.named_splits import Split
from tasks.pairs import PairSet, PromptPair, TokenSet, without_agreement
from tasks.text.framing import Framed, FramedTask, Framing
from tasks.text.lexicon import of_split, require_split, single_tokens, words
from tasks.text.masking import differing

PATIENCE = 10_000  # draws in a row that bring nothing new, after which there is nothing new

Answer = str | TokenSet
"""A text that follows the prompt, or the ids of tokens that count as the same at one position."""


@dataclass(frozen=True)
class Prompts:
    """A clean and a corrupted prompt in words.

    answer, wrong: what should follow the clean prompt, and what should not.
    names: what the prompts are about, the answer first; a task says what stands where.
    """

    clean: str
    corrupted: str
    answer: Answer
    wrong: Answer
    names: tuple[str, ...] = ()


Maker = Callable[[random.Random], Sequence[Prompts]]


@dataclass(frozen=True)
class Generated(FramedTask, ABC):
    """A task made of templates and words.

    add_bos: auto (what the tokenizer puts before a text by itself), true or false.
    chat: put the prompt into the tokenizer's chat template, and the answer behind its header.
    """

    add_bos: bool | str = field(default="auto", kw_only=True)
    chat: bool = field(default=False, kw_only=True)

    name: ClassVar[str]
    metric: ClassVar[str] = "logit-difference"
    version: ClassVar[int] = 1
    one_token: ClassVar[bool] = True
    """Whether an answer has to be a single token."""

    @abstractmethod
    def _maker(self, tokenizer: PreTrainedTokenizerBase, split: Split) -> Maker:
        """What turns a source of random numbers into the next prompts, with words of the split
        that the tokenizer can use; too few of them are refused.
        """

    def prompts(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        *,
        split: Split = "train",
        seed: int = 0,
    ) -> list[Prompts]:
        """What `pairs` with the same arguments is made from, in words."""
        if n < 1:
            raise CircuitsError(f"{self.name}: {n} pairs asked for; at least 1 is needed")
        require_split(self.name, split)
        make = self._maker(tokenizer, split)
        rng = random.Random(f"{self.name} {self.version} {split} {seed}")
        by_clean: dict[str, Prompts] = {}
        n_idle = 0
        while len(by_clean) < n:
            n_before = len(by_clean)
            for prompts in make(rng):
                by_clean.setdefault(prompts.clean, prompts)
            n_idle = n_idle + 1 if len(by_clean) == n_before else 0
            if n_idle == PATIENCE:
                raise TooFewError(
                    f"{self.name}, split {split!r}: {n} different prompts are asked for, and "
                    f"{len(by_clean)} were found; ask for fewer",
                    len(by_clean),
                )
        return list(by_clean.values())[:n]

    def pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> PairSet:
        """`n` pairs, no clean prompt twice; the spans are the positions that differ."""
        framing = self._framing(tokenizer)
        pair_set = PairSet(
            tuple(
                self._pair(framing, prompts, f"{self.name} {split} pair {number}")
                for number, prompts in enumerate(self.prompts(tokenizer, n, split=split, seed=seed))
            ),
            task=self.name,
            split=split,
            metric=self.metric,
        )
        pair_set.validate(d_vocab=len(tokenizer), n_ctx=n_ctx)
        return pair_set

    def _pair(self, framing: Framing, prompts: Prompts, source: str) -> PromptPair:
        with error_context(source):
            prompt = framing.prompt(prompts.clean)
            clean, corrupted = prompt.ids, framing.prompt(prompts.corrupted).ids
            answer = self._tokens(framing, prompt, prompts.answer)
            wrong_sets = self._tokens(framing, prompt, prompts.wrong)
        return PromptPair(
            clean=clean,
            corrupted=corrupted,
            answer=answer,
            wrong=without_agreement(answer, wrong_sets),
            spans=differing(clean, corrupted),
            source=source,
        )

    def _as_answers(
        self, tokenizer: PreTrainedTokenizerBase, candidates: Sequence[str], least: int
    ) -> list[str]:
        """The words that can be answers. Behind a chat's header a word may have other tokens than
        in a sentence: then those of one token, or, where several do, of equally many.
        """
        if not self.chat:
            return list(candidates)
        framing, groups = self._framing(tokenizer), defaultdict[int, list[str]](list)
        prompt = framing.prompt("the")
        for word in candidates:
            groups[len(framing.answer(prompt, f" {word}"))].append(word)
        if self.one_token:
            if len(groups[1]) < least:
                raise CircuitsError(
                    f"{self.name}: {len(groups[1])} of {len(candidates)} answers are one token "
                    f"behind the chat's header, and at least {least} are needed; leave out chat"
                )
            return groups[1]
        large_groups = (group for _, group in sorted(groups.items()) if len(group) >= least)
        return next(large_groups, list(candidates))

    def _countables(
        self, tokenizer: PreTrainedTokenizerBase, split: Split, least: int
    ) -> list[str]:
        """Nouns of the split, in the singular, of one token, that can be answers."""
        nouns = of_split([noun.split()[0] for noun in words("countables")], split)
        nouns = self._as_answers(tokenizer, nouns, least)
        pool = f"{self.name}: of the nouns in the split {split!r}"
        return single_tokens(tokenizer, nouns, least, pool)

    def _tokens(self, framing: Framing, prompt: Framed, answer: Answer) -> tuple[TokenSet, ...]:
        if not isinstance(answer, str):
            return (answer,)
        tokens = framing.answer(prompt, answer)
        if self.one_token and len(tokens) != 1:
            raise CircuitsError(
                f"the answer {answer!r} is {len(tokens)} tokens after the prompt, and the task "
                "needs one"
            )
        return tuple((token,) for token in tokens)


def require_option(task: str, option: str, given: str, known: Sequence[str]) -> None:
    """Refuse a value that the option does not take, listing those that it does."""
    if given not in known:
        raise CircuitsError(f"{task}: unknown {option} {given!r}; known: {', '.join(known)}")
