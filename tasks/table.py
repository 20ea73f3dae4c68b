"""The task `table`: prompt pairs written out in a file, one a row.

Columns:
- clean, corrupted: the two prompts, as text or as a JSON list of token ids; equally many tokens.
- the right answer: `correct` (text that follows the clean prompt, its leading space included) or
  `correct_idx` (a token id);
- the wrong answer, in all rows or in none: `incorrect` or `incorrect_idx`.
- split, if any: train, validation or test.

A JSON list in an answer column is a set of tokens at one position, each counted as right (or as
wrong): ids in `*_idx`, texts of one token each in `correct` and `incorrect`. The `*_idx` columns
are those of EAP-IG's data files.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from tasks import splits
from tasks.errors import CircuitsError, naming
from tasks.files import Row, read_rows
from tasks.masking import differing
from tasks.pairs import PairSet, PromptPair, TokenSet
from tasks.task import Split
from tasks.text import beginning, continuation, encode


@dataclass(frozen=True)
class Table:
    """Your own prompt pairs. The metric is the logit difference when the file has wrong answers,
    the log-probability of the answer when it has none.

    path: a .csv, .tsv, .jsonl, .json or .parquet file with the columns named above.
    add_bos: begin every prompt that is given as text with the beginning-of-text token.
    """

    path: str | Path
    add_bos: bool = False

    name: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        wrong = [_filled(row, "incorrect", "incorrect_idx") for row in self._rows]
        for row, has_wrong in zip(self._rows, wrong, strict=True):
            if has_wrong != wrong[0]:
                here, there = ("a", "none") if has_wrong else ("no", "one")
                raise CircuitsError(
                    f"{row.source}: {here} wrong answer, where {self._rows[0].source} has {there}; "
                    "give one in all rows or in none"
                )

    @property
    def metric(self) -> str:
        """logit-difference when the rows have wrong answers, else answer-log-probability."""
        return "logit-difference" if self._has_wrong else "answer-log-probability"

    def pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None = None,
        *,
        split: Split = "all",
        seed: int = 0,
        context: int | None = None,
    ) -> PairSet:
        """All rows in the file's order, or `n` of them drawn by `seed`; of one split if asked."""
        rows = splits.choose(self._rows, split, lambda row: str(row.cell("clean")))
        where = f"{Path(self.path).name}, split {split!r}"
        order = splits.draw(len(rows), n, seed, where)[:n]
        pairs = tuple(self._pair(tokenizer, rows[index]) for index in order)
        made = PairSet(pairs, task=self.name, split=split, metric=self.metric)
        made.require(vocabulary=len(tokenizer), context=context)
        return made

    @property
    def _has_wrong(self) -> bool:
        return _filled(self._rows[0], "incorrect", "incorrect_idx")

    @cached_property
    def _rows(self) -> list[Row]:
        return read_rows(self.path)

    def _pair(self, tokenizer: PreTrainedTokenizerBase, row: Row) -> PromptPair:
        clean = self._prompt(tokenizer, row, "clean")
        corrupted = self._prompt(tokenizer, row, "corrupted")
        answer = _answer(tokenizer, row, "correct")
        wrong = _answer(tokenizer, row, "incorrect") if self._has_wrong else ()
        if len(wrong) == len(answer) > 1 and wrong != answer:
            # " New York" and " New Delhi": where the two agree there is nothing to tell apart.
            wrong = tuple(
                () if bad == good else bad for good, bad in zip(answer, wrong, strict=True)
            )
        return PromptPair(
            clean=clean,
            corrupted=corrupted,
            answer=answer,
            wrong=wrong,
            spans=differing(clean, corrupted) if len(clean) == len(corrupted) else (),
            source=row.source,
        )

    def _prompt(self, tokenizer: PreTrainedTokenizerBase, row: Row, column: str) -> tuple[int, ...]:
        value = _listed(row.cell(column))
        if isinstance(value, list):
            return _ids(row, column, value)
        if not isinstance(value, str):
            raise CircuitsError(
                f"{row.source}: column {column!r} holds {value!r}, which is neither text nor a "
                "list of token ids"
            )
        bos = (beginning(tokenizer),) if self.add_bos else ()
        return (*bos, *encode(tokenizer, value))


def _answer(tokenizer: PreTrainedTokenizerBase, row: Row, column: str) -> tuple[TokenSet, ...]:
    """The answer in a column or in its `_idx` twin: per position, the tokens that count."""
    indices = f"{column}_idx"
    if _filled(row, column) == _filled(row, indices):
        number = "both" if _filled(row, column) else "neither"
        raise CircuitsError(
            f"{row.source}: {number} of {column!r} and {indices!r} given; give one of the two"
        )
    if _filled(row, indices):
        ids = _listed(row.cell(indices))
        return (_ids(row, indices, ids if isinstance(ids, list) else [ids]),)
    value = _listed(row.cell(column))
    if not isinstance(value, list):
        return tuple((token,) for token in _tokens(tokenizer, row, column, value))
    alternatives = [_tokens(tokenizer, row, column, text) for text in value]
    for text, tokens in zip(value, alternatives, strict=True):
        if len(tokens) != 1:
            raise CircuitsError(
                f"{row.source}: {column!r} lists {text!r}, which is {len(tokens)} tokens; answers "
                "in a list are one token each"
            )
    return (tuple(tokens[0] for tokens in alternatives),)


def _tokens(
    tokenizer: PreTrainedTokenizerBase, row: Row, column: str, text: Any
) -> tuple[int, ...]:
    """The tokens of an answer's text where it follows the clean prompt."""
    if not isinstance(text, str):
        raise CircuitsError(f"{row.source}: column {column!r} holds {text!r}, which is not text")
    prompt = _listed(row.cell("clean"))
    with naming(f"{row.source}: column {column!r}"):
        tokens = continuation(tokenizer, prompt if isinstance(prompt, str) else "", text)
    if not tokens:
        raise CircuitsError(f"{row.source}: the answer {text!r} in {column!r} is no token")
    return tokens


def _ids(row: Row, column: str, values: list[Any]) -> tuple[int, ...]:
    ids = []
    for value in values:
        try:
            number = float(value)  # pandas writes 464.0 in a column with gaps
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, bool) or not number.is_integer():
            raise CircuitsError(
                f"{row.source}: column {column!r} holds {value!r}, which is not a token id"
            )
        ids.append(int(number))
    return tuple(ids)


def _filled(row: Row, *columns: str) -> bool:
    """Whether the row has a value in any of the columns; an empty cell is none."""
    return any(row.values.get(column) not in (None, "") for column in columns)


def _listed(value: Any) -> Any:
    """A cell whose text is a JSON list as that list, any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value
