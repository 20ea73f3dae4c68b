"""The task `table`: prompt pairs written out in a file, one a row.

Columns:
- clean, corrupted: the two prompts, as text or as a JSON list of token ids; equally many tokens.
- the right answer: `correct` (text that follows the clean prompt, its leading space included) or
  `correct_idx` (a token id);
- the wrong answer, in all rows or in none: `incorrect` or `incorrect_idx`.
- split, if any: train, validation or test.

A list in an answer column, in JSON or as Python writes it, is a set of tokens at one position, each
counted as right (or as wrong): ids in `*_idx`, texts of one token each in `correct` and
`incorrect`. The `*_idx` columns are those of EAP-IG's data files; files with other names for them
are read by the options of the same names.

Each of these options may also be a template over any columns: clean="The capital of {country} is",
correct=" {capital}". Where only the clean prompt and its answer are given so, the corrupted prompt
and the wrong answer are those of a peer row (`tasks.peers`).
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, SupportsFloat

from transformers import PreTrainedTokenizerBase

from tasks import saved, splits
from tasks.errors import CircuitsError, InputError, error_context
from tasks.files import Row, read_rows
from tasks.named_splits import Split
from tasks.pairs import PairSet, PromptPair, TokenSet, without_agreement
from tasks.peers import NoPeerError, Peers
from tasks.skipping import Skipped, keep
from tasks.templates import Template, filled, is_template, require_gap
from tasks.text.framing import Framed, FramedTask, Framing
from tasks.text.masking import differing
from tasks.text.tokens import control_token

CONTROL = ("refuse", "text", "token")
_NO_PEER = "no peer: no other row of the split has a prompt of {} tokens and another answer"
_PADDING = 1024  # rows that a model may have beyond its tokenizer's tokens
_YEARS = re.compile(r"(\d\d)(\d\d) to the year \1$")


@dataclass(frozen=True)
class Table(FramedTask):
    """Your own prompt pairs. The metric is the logit difference when the file has wrong answers,
    the log-probability of the answer when it has none.

    path: a .csv, .tsv, .jsonl, .json or .parquet file with the columns named above, or a folder
        that `datasets.save_to_disk` wrote.
    add_bos: auto (what the tokenizer puts before a text by itself; prompts of token ids stay as
        they are), true (ids too) or false.
    clean, corrupted: the columns of the prompts, or templates ("{question}", "{peer.question}").
    correct, incorrect: the columns of the answers, for files that name them otherwise: token ids
        where the name ends in `_idx`, text where it does not. Or templates (" {answer}").
    control: what control tokens written in a text are ("<|im_end|>"): `refuse`, `text` (the
        characters that they are written with) or `token`. A begin token at the very beginning of a
        prompt is always one, and no second is put before it.
    chat: put the prompts into the tokenizer's chat template, and the answers behind its header.
    skip: leave out rows that cannot be used, and list them (`PairSet.skipped`).
    """

    path: str | Path
    add_bos: bool | str = "auto"
    clean: str = "clean"
    corrupted: str = "corrupted"
    correct: str | None = None
    incorrect: str | None = None
    control: str = "refuse"
    chat: bool = False
    skip: bool = False

    name: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control not in CONTROL:
            raise InputError(
                f"table: unknown control {self.control!r}; known: {', '.join(CONTROL)}"
            )
        if self.chat and self.control != "refuse":
            raise InputError("table: with chat, the template alone writes control tokens")
        if "incorrect" in self._templates:
            return
        wrong = [_filled(row, *self._wrong_columns) for row in self._rows]
        if self.incorrect is not None and not any(wrong):
            self._rows[0].cell(self.incorrect)  # refuses, naming the columns that there are
        if self.skip:
            return
        for row, has_wrong in zip(self._rows, wrong, strict=True):
            if has_wrong != wrong[0]:
                row_has, first_has = ("a", "none") if has_wrong else ("no", "one")
                raise InputError(
                    f"{row.source}: {row_has} wrong answer, where {self._rows[0].source} has "
                    f"{first_has}; give one in all rows or in none"
                )

    @property
    def metric(self) -> str:
        """logit-difference when the rows have wrong answers, else answer-log-probability."""
        return "logit-difference" if self._has_wrong else "answer-log-probability"

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, or those of the folder."""
        return saved.files(self.path)

    def pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None = None,
        *,
        split: Split = "all",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> PairSet:
        """All rows in the file's order, or `n` of them drawn by `seed`; of one split if asked."""
        left_out: list[Skipped] | None = [*self._unread] if self.skip else None
        rows = splits.choose(self._rows, split, self._text, left_out)
        where = f"{Path(self.path).name}, split {split!r}"
        framing = self._framing(tokenizer)
        peers = self._peers(framing, rows, seed)

        def make(index: int) -> PromptPair:
            if peers is None:
                pair = self._pair(framing, filled(rows[index], self._templates))
            else:
                pair = self._pair_with_peer(framing, rows, index, peers)
            _require_ids(pair, len(tokenizer))
            PairSet((pair,)).validate(d_vocab=max(pair.tokens) + 1, n_ctx=n_ctx)
            return pair

        pairs = keep(
            splits.draw(len(rows), n, seed, where),
            make,
            n,
            source=lambda index: rows[index].source,
            where=where,
            left_out=left_out or [],
            skips=CircuitsError if self.skip else NoPeerError,
        )
        return PairSet(
            tuple(pairs), task=self.name, split=split, metric=self.metric, skipped=pairs.skipped
        )

    @cached_property
    def _templates(self) -> dict[str, Template]:
        """The cells that are made of templates; those of a peer where nothing else is given."""
        templates = {
            name: Template(text, name)
            for name in ("clean", "corrupted", "correct", "incorrect")
            if is_template(text := getattr(self, name))
        }
        columns = {name for row in self._rows for name in row.values}
        if "clean" in templates and self.corrupted == "corrupted" and "corrupted" not in columns:
            templates["corrupted"] = templates["clean"].of_peer("corrupted")
        peered = any(template.needs_peer for template in templates.values())
        if peered and self.incorrect is None and not columns & {"incorrect", "incorrect_idx"}:
            answer = templates.get("correct")
            if answer is None and (self.correct or "correct") in columns:
                answer = Template(f"{{{self.correct or 'correct'}}}", "correct")
            if answer is not None:
                templates["incorrect"] = answer.of_peer("incorrect")
        return templates

    def _text(self, row: Row) -> str:
        """What of a row says which split it belongs to, where no column does."""
        template = self._templates.get("clean")
        if template is None or template.needs_peer:
            return str(row.cell(self._column("clean")))
        return template.filled(row)

    def _column(self, option: str) -> str:
        """The cell that an option stands for."""
        return option if option in self._templates else str(getattr(self, option))

    def _peers(self, framing: Framing, rows: Sequence[Row], seed: int) -> Peers | None:
        """Who can be whose peer; None where no template asks for one."""
        if not any(template.needs_peer for template in self._templates.values()):
            return None
        own_templates = {
            name: template for name, template in self._templates.items() if not template.needs_peer
        }

        def likeness(index: int) -> tuple[int, str]:
            row = filled(rows[index], own_templates)
            prompt = self._prompt(framing, row, self._column("clean"))
            return len(prompt.ids), str(row.cell(self._answer_column(row, "correct")))

        return Peers(len(rows), likeness, seed)

    def _pair_with_peer(
        self, framing: Framing, rows: Sequence[Row], index: int, peers: Peers
    ) -> PromptPair:
        """The pair of a row and of the first peer that serves."""
        row, reason = rows[index], ""
        for peer in peers.of(index):
            try:
                pair = self._pair(framing, filled(row, self._templates, rows[peer]))
            except CircuitsError as error:
                reason = reason or str(error)
                continue
            if len(pair.clean) == len(pair.corrupted) and pair.clean != pair.corrupted:
                peer_row = rows[peer].source.rpartition(", ")[2]
                return replace(pair, source=f"{row.source} (peer {peer_row})")
        clean = filled(row, {k: v for k, v in self._templates.items() if not v.needs_peer})
        n = len(self._prompt(framing, clean, self._column("clean")).ids)
        raise NoPeerError(
            f"{row.source}: {reason.removeprefix(row.source).lstrip(', :') or _NO_PEER.format(n)}"
        )

    @cached_property
    def _has_wrong(self) -> bool:
        """Whether the rows have wrong answers; with `skip`, whether most have."""
        if "incorrect" in self._templates:
            return True
        rows = self._rows if self.skip else self._rows[:1]
        return 2 * sum(_filled(row, *self._wrong_columns) for row in rows) >= len(rows)

    @property
    def _wrong_columns(self) -> tuple[str, ...]:
        if "incorrect" in self._templates:
            return ("incorrect",)
        return (self.incorrect,) if self.incorrect else ("incorrect", "incorrect_idx")

    @cached_property
    def _rows(self) -> list[Row]:
        return read_rows(self.path, self._unread if self.skip else None)

    @cached_property
    def _unread(self) -> list[Skipped]:
        """Rows that were left out when the file was read; `_rows` fills it."""
        return []

    def _pair(self, framing: Framing, row: Row) -> PromptPair:
        prompt = self._prompt(framing, row, self._column("clean"))
        clean, corrupted = prompt.ids, self._prompt(framing, row, self._column("corrupted")).ids
        self._refuse_years(row)
        answer = self._answer(framing, prompt, row, self._answer_column(row, "correct"))
        wrong_sets: tuple[TokenSet, ...] = ()
        if _filled(row, *self._wrong_columns) != self._has_wrong:
            row_has, most_have = ("no", "one") if self._has_wrong else ("a", "none")
            raise InputError(
                f"{row.source}: {row_has} wrong answer, where most rows have {most_have}"
            )
        if self._has_wrong:
            wrong_sets = self._answer(framing, prompt, row, self._answer_column(row, "incorrect"))
        return PromptPair(
            clean=clean,
            corrupted=corrupted,
            answer=answer,
            wrong=without_agreement(answer, wrong_sets),
            spans=differing(clean, corrupted),
            source=row.source,
        )

    def _prompt(self, framing: Framing, row: Row, column: str) -> Framed:
        value = _listed(row.cell(column))
        row.require_no_column(column)
        if not isinstance(value, str | list):
            raise InputError(
                f"{row.source}: column {column!r} holds {value!r}, which is neither text nor a "
                "list of token ids"
            )
        ids = _ids(row, column, value) if isinstance(value, list) else ()
        with error_context(f"{row.source}: column {column!r}"):
            if isinstance(value, list):
                return framing.ids(ids)
            begin_ids, text = framing.begun(value)
            self._check_control(framing, text, len(value) - len(text))
            return framing.prompt(text, begin=begin_ids, control=self.control == "token")

    def _answer_column(self, row: Row, option: str) -> str:
        """The cell of the right or of the wrong answer."""
        if option in self._templates:
            return option
        column: str | None = getattr(self, option)
        return column or _given(row, option)

    def _answer(
        self, framing: Framing, prompt: Framed, row: Row, column: str
    ) -> tuple[TokenSet, ...]:
        """The answer in a column: per position, the tokens that count."""
        value = _listed(row.cell(column))
        if column.endswith("_idx"):
            return (_ids(row, column, value if isinstance(value, list) else [value]),)
        if not isinstance(value, list):
            return tuple((token,) for token in self._tokens(framing, prompt, row, column, value))
        alternatives = [self._tokens(framing, prompt, row, column, text) for text in value]
        for text, tokens in zip(value, alternatives, strict=True):
            if len(tokens) != 1:
                raise InputError(
                    f"{row.source}: {column!r} lists {text!r}, which is {len(tokens)} tokens; "
                    "answers in a list are one token each"
                )
        return (tuple(tokens[0] for tokens in alternatives),)

    def _tokens(
        self, framing: Framing, prompt: Framed, row: Row, column: str, text: object
    ) -> tuple[int, ...]:
        """The tokens of an answer's text where it follows the clean prompt."""
        if not isinstance(text, str):
            raise InputError(f"{row.source}: column {column!r} holds {text!r}, which is not text")
        if column in self._templates and prompt.text is not None and not self.chat:
            require_gap(prompt.text, text, row.source)
        with error_context(f"{row.source}: column {column!r}"):
            self._check_control(framing, text)
            tokens = framing.answer(prompt, text, control=self.control == "token")
        if not tokens:
            raise InputError(f"{row.source}: the answer {text!r} in {column!r} is no token")
        return tokens

    def _check_control(self, framing: Framing, text: str, offset: int = 0) -> None:
        """Refuse a control token in a text, `offset` characters into its cell."""
        if self.control != "refuse" or self.chat:  # a template refuses them itself
            return
        if token := control_token(framing.tokenizer, text):
            name, position = token
            raise InputError(
                f"the control token {name!r} is written at character {offset + position + 1}; say "
                "what it is with the option control=token, or control=text for its characters"
            )

    def _refuse_years(self, row: Row) -> None:
        """EAP-IG's greater-than file has the year's last digits where others have a token id."""
        years = _YEARS.search(str(row.cell(self._column("clean"))))
        index = row.values.get(self.correct or "correct_idx")
        if years and not self._has_wrong and str(index) in (years[2], str(int(years[2]))):
            raise InputError(
                f"{row.source}: {index} is the end of the year in the prompt, not a token id; use "
                "the task 'greater-than', or give the ids of the right and the wrong tokens"
            )


def _require_ids(pair: PromptPair, tokens: int) -> None:
    """Refuse ids that no model of the tokenizer has; the model itself knows its rows."""
    if outliers := [token for token in pair.tokens if not 0 <= token < tokens + _PADDING]:
        raise InputError(
            f"{pair.source}: token id {outliers[0]} is outside the model's vocabulary: the "
            f"tokenizer has {tokens} tokens, and a model few rows more; was it made by another "
            "tokenizer?"
        )


def _given(row: Row, column: str) -> str:
    """The column or its `_idx` twin, whichever holds the answer."""
    indices = f"{column}_idx"
    if _filled(row, column) == _filled(row, indices):
        number = "both" if _filled(row, column) else "neither"
        raise InputError(
            f"{row.source}: {number} of {column!r} and {indices!r} given; give one of the two"
        )
    return column if _filled(row, column) else indices


def _ids(row: Row, column: str, values: list[object]) -> tuple[int, ...]:
    ids = []
    for value in values:
        try:
            # pandas writes 464.0 in a column with gaps
            number = float(value) if isinstance(value, str | bytes | SupportsFloat) else math.nan
        except ValueError:
            number = math.nan
        if isinstance(value, bool) or not number.is_integer():
            raise InputError(
                f"{row.source}: column {column!r} holds {value!r}, which is not a token id"
            )
        ids.append(int(number))
    return tuple(ids)


def _filled(row: Row, *columns: str) -> bool:
    """Whether the row has a value in any of the columns; an empty cell is none."""
    return any(row.values.get(column) not in (None, "") for column in columns)


def _listed(value: object) -> object:
    """A cell whose text is a list, in JSON or Python, as that list; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        for parse in (json.loads, ast.literal_eval):
            try:
                parsed = parse(value.strip())
            except (ValueError, SyntaxError):
                continue
            return parsed if isinstance(parsed, list) else value
    return value
