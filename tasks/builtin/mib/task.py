"""What MIB's tasks have in common (Mueller et al. 2025, arXiv:2504.13151, circuit track).

Read from a copy of a data set, as the benchmark's own code reads it (`HFEAPDataset` in
hannamw/MIB-circuit-track, MIB_circuit_track/dataset.py):

- **Splits** are the data set's own. Scores are made on the first 100 rows of `train`, circuits are
  judged on all of `validation` or `test`.
- **Rows** are taken in the data set's order, after those that its filter leaves out.
- **Counterfactuals** are columns of the row; each task has the one that MIB takes.
- **BOS.** Every prompt begins with the begin token, or, where the tokenizer has none (Qwen), with
  its end-of-text token, as TransformerLens does.
- **Answers** are the first token of a word that is tokenised by itself, not behind the prompt.

Two kinds of rows are left out here and not there. Where right and wrong answer are one token the
metric is 0 whatever runs, so that f, a ratio of means, is the same without them. Where the two
prompts have different numbers of tokens no position can be patched with another's: such a row is
refused, or left out with `skip`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from transformers import PreTrainedTokenizerBase

from tasks import splits
from tasks.builtin.mib.cells import text
from tasks.errors import CircuitsError, InputError
from tasks.files import Row
from tasks.named_splits import Split
from tasks.pairs import PairSet, PromptPair
from tasks.skipping import Skipped, keep
from tasks.sources import Source
from tasks.text.framing import Framing
from tasks.text.masking import differing
from tasks.text.tokens import encode

_ENDING = "_counterfactual"


class NotTakenError(InputError):
    """A row that MIB's own code leaves out, or that says nothing; never refused."""


class Answers(NamedTuple):
    """The words that should follow the clean prompt, and that should not."""

    right: str
    wrong: str


@dataclass(frozen=True, kw_only=True)
class MIBTask(ABC):
    """A data set of MIB's circuit track.

    path: a local copy: a folder (of the hub's files, or that `datasets.save_to_disk` wrote), or a
        .jsonl, .json or .parquet file whose column `split` says what belongs where.
    dataset: instead of a path, another id of the hub than MIB's own.
    config: one of the dataset's configurations, where it has several; MIB's own has its default.
    counterfactual: the corrupted prompt's column, with or without `_counterfactual` at its end;
        default: the one that MIB takes.
    draw: draw rows by the seed; MIB takes the first ones.
    add_bos: begin every prompt with the begin token, as MIB does; or auto (what the tokenizer does
        by itself), or false.
    skip: leave out rows that cannot be used, and list them (`PairSet.skipped`).
    """

    path: str | Path | None = None
    dataset: str | None = None
    config: str | None = None
    counterfactual: str | None = None
    draw: bool = False
    add_bos: bool | str = True
    skip: bool = False

    name: ClassVar[str]
    metric: ClassVar[str] = "logit-difference"
    own_config: ClassVar[str | None] = None
    """The configuration of MIB's own data set."""
    usual: ClassVar[str]
    """The counterfactual that MIB takes."""

    def __post_init__(self) -> None:
        if not (self.add_bos == "auto" or isinstance(self.add_bos, bool)):
            raise InputError(f"add_bos={self.add_bos!r}: add_bos is true or false, or auto")
        _ = self._source  # a path that is not there is refused at once

    @property
    @abstractmethod
    def hub_id(self) -> str:
        """The id of MIB's own data set."""

    @abstractmethod
    def _answers(self, row: Row, column: str, /) -> Answers:
        """The right and the wrong word of a row.

        column: of the counterfactual.
        """

    @abstractmethod
    def _require_taken(
        self, tokenizer: PreTrainedTokenizerBase, row: Row, answers: Answers
    ) -> None:
        """MIB's filter: raise NotTakenError for a row that it leaves out."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The local files that are read; none of the hub's."""
        return self._source.files

    def pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None = None,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> PairSet:
        """The first `n` rows of a split that MIB takes, or all of them; with `draw`, `n` drawn by
        the seed.
        """
        splits.check_number(n)
        framing = Framing(tokenizer, add_bos=self.add_bos, chat=False, or_end=True)
        left_out: list[Skipped] = []
        rows = self._source.rows(split, None, left_out if self.skip else None)
        where = f"{self.name}, split {split!r}"

        def make(index: int) -> PromptPair:
            pair = self._pair(framing, rows[index])
            PairSet((pair,)).validate(d_vocab=len(tokenizer), n_ctx=n_ctx)
            return pair

        pairs = keep(
            splits.draw(len(rows), len(rows) if self.draw else None, seed, where),
            make,
            n,
            source=lambda index: rows[index].source,
            where=where,
            left_out=[*self._source.unread, *left_out],
            skips=CircuitsError if self.skip else NotTakenError,
        )
        return PairSet(
            tuple(pairs), task=self.name, split=split, metric=self.metric, skipped=pairs.skipped
        )

    @cached_property
    def _source(self) -> Source:
        dataset, config = self.dataset, self.config
        if self.path is None and dataset is None:
            dataset, config = self.hub_id, config or self.own_config
        return Source.of(self.name, self.path, dataset, config, skip=self.skip)

    def _pair(self, framing: Framing, row: Row) -> PromptPair:
        column = self._column(row)
        answers = self._answers(row, column)
        self._require_taken(framing.tokenizer, row, answers)
        (right_id, *_), (wrong_id, *_) = (_alone(framing.tokenizer, word, row) for word in answers)
        if right_id == wrong_id:
            raise NotTakenError(
                f"{row.source}: the right and the wrong answer begin with one token "
                f"({answers.right!r}, {answers.wrong!r})"
            )
        clean = framing.prompt(text(row, "prompt")).ids
        corrupted = framing.prompt(text(row, f"{column}.prompt")).ids
        return PromptPair(
            clean=clean,
            corrupted=corrupted,
            answer=((right_id,),),
            wrong=((wrong_id,),),
            spans=differing(clean, corrupted),
            source=row.source,
        )

    def _column(self, row: Row) -> str:
        """The counterfactual's column."""
        counterfactual = self.counterfactual or self.usual
        column = f"{counterfactual.removesuffix(_ENDING)}{_ENDING}"
        if column not in row.values:
            known_names = [
                name.removesuffix(_ENDING) for name in row.values if name.endswith(_ENDING)
            ]
            names_text = ", ".join(known_names) or "none; is it a row of MIB's data set?"
            raise InputError(
                f"{row.source}: no counterfactual {counterfactual!r}; the row has: {names_text}"
            )
        return column


def require_one_length(
    tokenizer: PreTrainedTokenizerBase, row: Row, *words: str, most: int | None = None
) -> None:
    """MIB's filter: words of equally many tokens, each tokenised by itself.

    Args:
        tokenizer: of the model.
        row: for the message.
        *words: the words.
        most: tokens of each at most; None sets no bound.

    Raises:
        NotTakenError: where they differ, or there are more.
    """
    lengths = [len(_alone(tokenizer, word, row)) for word in words]
    if len(set(lengths)) > 1 or (most is not None and max(lengths) > most):
        lengths_text = ", ".join(
            f"{word!r} {length}" for word, length in zip(words, lengths, strict=True)
        )
        condition = "one token each" if most == 1 else "equally many tokens"
        raise NotTakenError(f"{row.source}: MIB's filter: answers of {condition} ({lengths_text})")


def _alone(tokenizer: PreTrainedTokenizerBase, word: str, row: Row) -> tuple[int, ...]:
    ids = encode(tokenizer, word)
    if not ids:
        raise InputError(f"{row.source}: the answer {word!r} is no token")
    return ids
