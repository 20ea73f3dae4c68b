"""The task `huggingface`: any data set, columns of it, and a corruption that is made here.

A prompt and an answer are columns, or templates over columns (`tasks.templates`). The corrupted
prompt is another column, or is made by one of

- `entity`: the text of the column `part`, wherever it stands in the prompt, becomes that of another
  row of the split (`entity.py`); that row's answer is the wrong one unless `wrong` says another;
- `paraphrase`: another wording of the same (`paraphrase.py`), a control;
- `negation`: the statement's contrary (`negation.py`);
- `shuffle`: the tokens of the part, or of the whole prompt, in another order;
- `mask`: these tokens become one filler.

The checks are those that all pairs get: equally many tokens, prompts that differ, answers that are
tokens where they stand behind the prompt, the context window; each refusal names file and row.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from tasks import splits
from tasks.builtin.huggingface.entity import swapped
from tasks.builtin.huggingface.negation import negations
from tasks.builtin.huggingface.paraphrase import paraphrases
from tasks.errors import CircuitsError, InputError, error_context
from tasks.files import Row
from tasks.generated import require_option
from tasks.named_splits import Split
from tasks.pairs import PairSet, PromptPair, TokenSet, without_agreement
from tasks.peers import NoPeerError, Peers
from tasks.skipping import Skipped, keep
from tasks.sources import Source
from tasks.templates import Template, is_template, require_gap
from tasks.text import masking
from tasks.text.framing import Framed, FramedTask, Framing
from tasks.text.tokens import continuation, control_token, token_named, token_spans

CORRUPTIONS = ("entity", "paraphrase", "negation", "shuffle", "mask", "column")
_WORD = "the"  # what words are tokenised behind, to be counted
_NEEDS = {"entity": "part", "paraphrase": "wordings", "column": "corrupted"}
_GOES_WITH = {
    "part": ("entity", "shuffle", "mask"),
    "wordings": ("paraphrase",),
    "corrupted": ("column",),
}


@dataclass(frozen=True, kw_only=True)
class HuggingFace(FramedTask):
    """Prompts and answers of any data set. The metric is the logit difference where there are wrong
    answers, else the log-probability of the answer.

    prompt: a column, or a template over columns ("The capital of {country} is").
    answer: likewise (" {capital}"); a column's text gets a space before it.
    wrong: the wrong answer, likewise; of entity swaps by default the other row's answer, of labels
        all others.
    labels: words for a column of whole numbers from 0, with | between: " bad| good".
    path: a local file, a folder of files, or one that `datasets.save_to_disk` wrote.
    dataset: an id of the hub, in place of a path.
    config: one of the dataset's configurations, where it has several.
    revision: of the hub's repository.
    corruption: entity, paraphrase, negation, shuffle, mask, or column (a corrupted prompt that the
        data set has).
    part: the column whose text, where it stands in the prompt, is corrupted; of shuffle and mask by
        default the whole prompt.
    wordings: of paraphrase: texts that mean the same, with | between.
    corrupted: of column: the column, or a template.
    filler: of mask: one token, or a control token's name.
    add_bos: auto (what the tokenizer puts before a text by itself), true or false.
    chat: put the prompts into the tokenizer's chat template, and the answers behind its header.
    skip: leave out rows that cannot be used, and list them (`PairSet.skipped`).
    """

    prompt: str
    answer: str
    wrong: str | None = None
    labels: str | None = None
    path: str | Path | None = None
    dataset: str | None = None
    config: str | None = None
    revision: str | None = None
    corruption: str = "entity"
    part: str | None = None
    wordings: str | None = None
    corrupted: str | None = None
    filler: str = " the"
    add_bos: bool | str = "auto"
    chat: bool = False
    skip: bool = False

    name: ClassVar[str] = "huggingface"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self.name, "corruption", self.corruption, CORRUPTIONS)
        if (option_needed := _NEEDS.get(self.corruption)) and getattr(self, option_needed) is None:
            raise InputError(
                f"{self.name}: corruption {self.corruption!r} needs the option {option_needed}"
            )
        for option, corruptions in _GOES_WITH.items():
            if getattr(self, option) is not None and self.corruption not in corruptions:
                raise InputError(
                    f"{self.name}: {option} goes with corruption {' or '.join(corruptions)}"
                )
        if self.wordings is not None and len({*self.wordings.split("|")} - {""}) < 2:
            raise InputError(
                f"{self.name}: wordings={self.wordings!r}: give two or more, as in a|b"
            )
        if self.labels is not None and len({*self.labels.split("|")} - {""}) < 2:
            raise InputError(f"{self.name}: labels={self.labels!r}: give two or more, as in a|b")
        _ = self._source  # a path that is not there is refused at once

    @property
    def metric(self) -> str:
        """logit-difference where there are wrong answers, else answer-log-probability."""
        return "logit-difference" if self._has_wrong else "answer-log-probability"

    @property
    def files(self) -> tuple[Path, ...]:
        """The local files that are read; none of the hub's."""
        return self._source.files

    def pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None = None,
        *,
        split: Split = "all",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> PairSet:
        """All rows in order, or `n` of them drawn by `seed`; of one split if asked."""
        left_out: list[Skipped] = []
        rows = self._source.rows(split, self._prompt_text, left_out if self.skip else None)
        framing, where = self._framing(tokenizer), f"{self.name}, split {split!r}"
        peers = None
        if self.corruption == "entity":
            peers = Peers(len(rows), lambda row: self._likeness(framing, rows[row]), seed)

        def make(index: int) -> PromptPair:
            pair = self._found(framing, rows, index, peers, seed)
            PairSet((pair,)).validate(d_vocab=len(tokenizer), n_ctx=n_ctx)
            return pair

        pairs = keep(
            splits.draw(len(rows), n, seed, where),
            make,
            n,
            source=lambda index: rows[index].source,
            where=where,
            left_out=[*self._source.unread, *left_out],
            skips=CircuitsError if self.skip else NoPeerError,
        )
        return PairSet(
            tuple(pairs), task=self.name, split=split, metric=self.metric, skipped=pairs.skipped
        )

    @cached_property
    def _source(self) -> Source:
        return Source.of(
            self.name, self.path, self.dataset, self.config, self.revision, skip=self.skip
        )

    @property
    def _has_wrong(self) -> bool:
        return self.wrong is not None or self.labels is not None or self.corruption == "entity"

    # -- texts of a row

    def _text(self, row: Row, option: str) -> str:
        """What an option stands for: the filled template, or the column's text or number."""
        setting = str(getattr(self, option))
        if is_template(setting):
            return Template(setting, option).filled(row)
        value = row.cell(setting)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        return row.text(setting)

    def _prompt_text(self, row: Row) -> str:
        return self._text(row, "prompt")

    def _answer_texts(self, row: Row) -> tuple[str, tuple[str, ...]]:
        """The right answer, and the wrong ones as far as the row alone has them."""
        if self.labels is not None:
            words = self.labels.split("|")
            key = row.cell(self.answer)
            if not isinstance(key, int) or isinstance(key, bool) or not 0 <= key < len(words):
                raise InputError(
                    f"{row.source}: column {self.answer!r} holds {key!r}, where the labels are "
                    f"numbered from 0 to {len(words) - 1}"
                )
            wrong_labels = tuple(word for index, word in enumerate(words) if index != key)
            return words[key], wrong_labels if self.wrong is None else (self._spaced(row, "wrong"),)
        return self._spaced(row, "answer"), () if self.wrong is None else (
            self._spaced(row, "wrong"),
        )

    def _spaced(self, row: Row, option: str) -> str:
        """An answer as it follows the prompt: a template as written, a column after a space."""
        text = self._text(row, option)
        if not is_template(str(getattr(self, option))):
            return f" {text.strip()}"
        if not self.chat:
            require_gap(self._prompt_text(row), text, row.source)
        return text

    # -- pairs

    def _likeness(self, framing: Framing, row: Row) -> tuple[tuple[int, ...], str]:
        """Entities of equally many tokens can be swapped; where the other row's answer is the wrong
        one, those whose answers differ, in equally many tokens.
        """
        entity = self._text(row, "part").strip()
        lengths = [len(continuation(framing.tokenizer, _WORD, f" {entity}"))]
        answer, wrong_texts = self._answer_texts(row)
        if wrong_texts:
            return tuple(lengths), entity
        return (*lengths, len(continuation(framing.tokenizer, _WORD, answer))), answer

    def _found(
        self, framing: Framing, rows: Sequence[Row], index: int, peers: Peers | None, seed: int
    ) -> PromptPair:
        """The first of the row's possible pairs whose prompts have equally many tokens."""
        row, mismatch = rows[index], ""
        wrong_texts = self._answer_texts(row)[1]
        for clean, corrupted, candidate_wrong in self._candidates(
            framing, rows, index, peers, seed
        ):
            if len(clean.ids) == len(corrupted) and clean.ids != corrupted:
                return self._pair(framing, row, clean, corrupted, wrong_texts or candidate_wrong)
            mismatch = mismatch or _mismatch(self.corruption, len(clean.ids), len(corrupted))
        if peers is not None:
            raise NoPeerError(
                f"{row.source}: no other row of the split has a {self.part} of as many tokens, and "
                "another answer of as many, that fits its prompt"
            )
        raise InputError(f"{row.source}: {mismatch}")

    def _candidates(
        self, framing: Framing, rows: Sequence[Row], index: int, peers: Peers | None, seed: int
    ) -> Iterator[tuple[Framed, tuple[int, ...], tuple[str, ...]]]:
        """Clean prompt, corrupted tokens, and wrong answers that come with them."""
        row = rows[index]
        text = self._prompt_text(row)
        if peers is not None:
            entity, clean = self._text(row, "part").strip(), self._framed(framing, row, text)
            swapped(text, entity, entity, row.source)  # refuses a prompt without it
            for peer in peers.of(index):
                peer_entity = self._text(rows[peer], "part").strip()
                corrupted = self._framed(
                    framing, row, swapped(text, entity, peer_entity, row.source)
                )
                yield clean, corrupted.ids, (self._answer_texts(rows[peer])[0],)
        elif self.corruption == "paraphrase":
            clean = self._framed(framing, row, text)
            for prompt in paraphrases(text, str(self.wordings).split("|"), row.source):
                yield clean, self._framed(framing, row, prompt).ids, ()
        elif self.corruption == "negation":
            for prompt, negated in negations(text, row.source):
                clean = self._framed(framing, row, prompt)
                yield clean, self._framed(framing, row, negated).ids, ()
        elif self.corruption == "column":
            corrupted = self._framed(framing, row, self._text(row, "corrupted"))
            yield self._framed(framing, row, text), corrupted.ids, ()
        else:
            yield self._by_tokens(framing, row, text, seed)

    def _by_tokens(
        self, framing: Framing, row: Row, text: str, seed: int
    ) -> tuple[Framed, tuple[int, ...], tuple[str, ...]]:
        """Shuffle or mask the tokens of the part."""
        characters = (0, len(text))
        if self.part is not None:
            part = self._text(row, "part").strip()
            if (start := text.find(part)) < 0:
                raise InputError(f"{row.source}: {part[:40]!r} does not stand in the prompt")
            characters = (start, start + len(part))
        with error_context(row.source):
            clean = framing.prompt(text, offsets=True)
            (span,) = token_spans(clean.offsets, (characters,))
            if self.corruption == "mask":
                filler = self._filler(framing.tokenizer)
                return clean, masking.filler(clean.ids, span, filler), ()
            draw = random.Random(f"{self.name} {seed} {text}")
            return clean, masking.shuffle(clean.ids, span, draw), ()

    def _filler(self, tokenizer: PreTrainedTokenizerBase) -> int:
        if (token := token_named(tokenizer, self.filler)) is not None:
            return token
        ids = continuation(tokenizer, _WORD, self.filler)
        if len(ids) != 1:
            raise InputError(f"the filler {self.filler!r} is {len(ids)} tokens; it must be one")
        return ids[0]

    def _framed(self, framing: Framing, row: Row, text: str) -> Framed:
        with error_context(row.source):
            if not self.chat and (control := control_token(framing.tokenizer, text)):
                raise InputError(
                    f"the control token {control[0]!r} is written in the prompt, at character "
                    f"{control[1] + 1}; take it out, or leave the row out with skip"
                )
            return framing.prompt(text)

    def _pair(
        self,
        framing: Framing,
        row: Row,
        clean: Framed,
        corrupted: tuple[int, ...],
        wrong_texts: tuple[str, ...],
    ) -> PromptPair:
        answer, _ = self._answer_texts(row)
        with error_context(row.source):
            right_ids = framing.answer(clean, answer)
            wrong_answers = [framing.answer(clean, text) for text in wrong_texts]
        right_sets = tuple((token,) for token in right_ids)
        wrong_sets: tuple[TokenSet, ...] = ()
        if len(wrong_answers) > 1:
            if len(right_ids) != 1 or any(len(ids) != 1 for ids in wrong_answers):
                raise InputError(
                    f"{row.source}: of several labels each has to be one token behind the prompt; "
                    f"they are {len(right_ids)} and "
                    f"{', '.join(str(len(ids)) for ids in wrong_answers)}"
                )
            wrong_sets = (tuple(dict.fromkeys(ids[0] for ids in wrong_answers)),)
        elif wrong_answers:
            (wrong_ids,) = wrong_answers
            wrong_sets = without_agreement(right_sets, [(token,) for token in wrong_ids])
        return PromptPair(
            clean=clean.ids,
            corrupted=corrupted,
            answer=right_sets,
            wrong=wrong_sets,
            spans=masking.differing(clean.ids, corrupted),
            source=row.source,
        )


def _mismatch(corruption: str, clean: int, corrupted: int) -> str:
    if clean == corrupted:
        return f"the clean and the corrupted prompt ({corruption}) are identical"
    return (
        f"the clean prompt has {clean} tokens and the corrupted one ({corruption}) {corrupted}; "
        "patching needs equal lengths, position by position"
    )
