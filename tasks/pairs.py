"""Clean and corrupted prompts: the one thing the rest of the project knows about a task.

A pair holds two prompts of equal length and the tokens that should follow the clean one. An answer
is a sequence of positions; at each stands a set of tokens counted as right (one token for a
summary, several for "any year after 1932") and, optionally, a set counted as wrong. The answer is
fed to the model token by token after both prompts (teacher forcing), so that a summary of 40 tokens
is read at 40 positions of one forward pass.

Nothing here touches text or a tokenizer: ids only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import overload

import torch
from jaxtyping import Int
from torch import Tensor

from tasks.batch import PairBatch
from tasks.errors import InputError
from tasks.skipping import Skipped

__all__ = ["PairBatch", "PairSet", "PromptPair", "TokenSet", "TrainingExample"]

TokenSet = tuple[int, ...]


@dataclass(frozen=True)
class TrainingExample:
    """A prompt and what should follow it, for training and for generation.

    Attributes:
        prompt: token ids.
        target: token ids that should follow; the loss is on these.
        source: where it came from; error messages begin with it.
    """

    prompt: tuple[int, ...]
    target: tuple[int, ...]
    source: str = "example"

    def __post_init__(self) -> None:
        if not self.prompt or not self.target:
            raise InputError(f"{self.source}: the prompt or the target has no tokens")


def without_agreement(
    answer: Sequence[TokenSet], wrong: Sequence[TokenSet]
) -> tuple[TokenSet, ...]:
    """Wrong tokens, none at positions where they are the answer's.

    " New York" and " New Delhi" begin alike: there is nothing to tell apart at their first token.

    Args:
        answer: per answer position, the right tokens.
        wrong: per answer position, the wrong ones; or tokens of a wrong answer of another length.

    Returns:
        The wrong tokens; unchanged where the two have one token or different lengths, or are the
        same throughout, which `PromptPair` refuses.
    """
    if not len(wrong) == len(answer) > 1 or tuple(wrong) == tuple(answer):
        return tuple(wrong)
    return tuple(
        () if wrong_set == right_set else wrong_set
        for right_set, wrong_set in zip(answer, wrong, strict=True)
    )


@dataclass(frozen=True)
class PromptPair:
    """One clean prompt, its corrupted twin, and the answer.

    Attributes:
        clean: token ids of the prompt.
        corrupted: token ids of its twin, equal in number and not identical.
        answer: per answer position, the tokens counted as right; the first of each is the one fed
            to the model, so an answer of several positions takes one token at each.
        wrong: per answer position, the tokens counted as wrong; empty when the task has none.
        spans: half-open token ranges of the prompt that were corrupted on purpose.
        source: where the pair came from ("pairs.csv, row 3"); error messages begin with it.
    """

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    answer: tuple[TokenSet, ...]
    wrong: tuple[TokenSet, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    source: str = "pair"

    def __post_init__(self) -> None:
        if not self.clean:
            raise InputError(f"{self.source}: the clean prompt has no tokens")
        if len(self.clean) != len(self.corrupted):
            raise InputError(
                f"{self.source}: the clean prompt has {len(self.clean)} tokens and the corrupted "
                f"one {len(self.corrupted)}; patching needs equal lengths, position by position"
            )
        if self.clean == self.corrupted:
            raise InputError(f"{self.source}: the clean and the corrupted prompt are identical")
        if not self.answer or not all(self.answer):
            raise InputError(f"{self.source}: the answer has no tokens")
        for tokens in (self.clean, self.corrupted, *self.answer, *self.wrong):
            if non_integers := [token for token in tokens if type(token) is not int]:
                raise InputError(
                    f"{self.source}: {non_integers[0]!r} is no token id; ids are whole numbers"
                )
        for tokens in (*self.answer, *self.wrong):
            if duplicates := [token for token in tokens if tokens.count(token) > 1]:
                raise InputError(
                    f"{self.source}: token {duplicates[0]} stands twice in an answer's set and "
                    "would count twice; give it once"
                )
        if len(self.answer) > 1 and any(len(tokens) != 1 for tokens in self.answer):
            raise InputError(
                f"{self.source}: an answer of several positions takes exactly one token at each"
            )
        if self.wrong and len(self.wrong) != len(self.answer):
            raise InputError(
                f"{self.source}: the answer has {len(self.answer)} positions and the wrong "
                f"answer {len(self.wrong)}"
            )
        for tokens, wrong_set in zip(self.answer, self.wrong, strict=False):
            if set(tokens) & set(wrong_set):
                raise InputError(
                    f"{self.source}: token {min(set(tokens) & set(wrong_set))} is both right and "
                    "wrong"
                )
        for start, end in self.spans:
            if not 0 <= start < end <= len(self.clean):
                raise InputError(
                    f"{self.source}: the span {start}-{end} lies outside the prompt's "
                    f"{len(self.clean)} tokens"
                )

    def __len__(self) -> int:
        """Tokens fed to the model: the prompt and all of the answer but its last token."""
        return len(self.clean) + len(self.answer) - 1

    @property
    def teacher_forced(self) -> tuple[int, ...]:
        """The answer tokens that are fed to the model after the prompt."""
        return tuple(tokens[0] for tokens in self.answer[:-1])

    @property
    def content(self) -> tuple[object, ...]:
        """All ids: two pairs are the same question if and only if these are equal."""
        return self.clean, self.corrupted, self.answer, self.wrong

    @property
    def tokens(self) -> set[int]:
        """Every token id that the pair mentions."""
        token_sets = (*self.answer, *self.wrong)
        return {*self.clean, *self.corrupted, *(token for tokens in token_sets for token in tokens)}


@dataclass(frozen=True)
class PairSet(Sequence[PromptPair]):
    """Prompt pairs of one task and split.

    Attributes:
        pairs: the pairs, at least one.
        task: the task's name.
        split: which part of the task's data they are.
        metric: the metric that the task is usually read by (a name from `circuits.metrics`).
        skipped: rows that were left out, as they could not be used.
    """

    pairs: tuple[PromptPair, ...]
    task: str = "pairs"
    split: str = "all"
    metric: str = "answer-log-probability"
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        if not self.pairs:
            raise InputError(f"{self.task} ({self.split}): no prompt pairs; an empty set")

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[PromptPair]:
        return iter(self.pairs)

    @overload
    def __getitem__(self, index: int) -> PromptPair: ...
    @overload
    def __getitem__(self, index: slice) -> PairSet: ...
    def __getitem__(self, index: int | slice) -> PromptPair | PairSet:
        if isinstance(index, slice):
            return replace(self, pairs=self.pairs[index])
        return self.pairs[index]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the ids of all pairs: equal sets, equal fingerprints."""
        return _hashed([pair.content for pair in self.pairs])

    @property
    def fingerprints(self) -> list[str]:
        """Of each pair 16 hex digits, by which a result remembers what it was made from."""
        return [_hashed(pair.content)[:16] for pair in self.pairs]

    def shared(self, fingerprints: Iterable[str]) -> int:
        """How many of the pairs are among those of another set.

        Args:
            fingerprints: the other set's `fingerprints`.

        Returns:
            The number of this set's pairs that have one of them.
        """
        known_marks = set(fingerprints)
        return sum(mark in known_marks for mark in self.fingerprints)

    def without(self, fingerprints: Iterable[str]) -> tuple[PromptPair, ...]:
        """The pairs that another set does not have.

        Args:
            fingerprints: the other set's `fingerprints`.

        Returns:
            The pairs that have none of them; there may be none.
        """
        known_marks = set(fingerprints)
        marks = zip(self.pairs, self.fingerprints, strict=True)
        return tuple(pair for pair, mark in marks if mark not in known_marks)

    def validate(self, *, d_vocab: int, n_ctx: int | None, encoder_decoder: bool = False) -> None:
        """Refuse pairs that a model of this size cannot read.

        Args:
            d_vocab: number of token ids that the model knows.
            n_ctx: its context length in tokens; None checks no length.
            encoder_decoder: whether prompt and answer are read apart, each in a window of its own.

        Raises:
            InputError: for the first such pair, by its source.
        """
        for pair in self.pairs:
            lengths = {"answer included": len(pair)}
            if encoder_decoder:
                lengths = {"the prompt": len(pair.clean), "the answer": len(pair.answer)}
            for label, length in lengths.items():
                if n_ctx is not None and length > n_ctx:
                    raise InputError(
                        f"{pair.source}: {length} tokens ({label}), but the model's context window "
                        f"holds {n_ctx}; shorten the text"
                    )
            if max(pair.tokens) >= d_vocab or min(pair.tokens) < 0:
                token = max(pair.tokens) if max(pair.tokens) >= d_vocab else min(pair.tokens)
                raise InputError(
                    f"{pair.source}: token id {token} is outside the model's vocabulary of "
                    f"{d_vocab}; was it made by another tokenizer?"
                )

    def batches(self, size: int, *, apart: int | None = None) -> Iterator[PairBatch]:
        """The pairs, longest first, in batches with little padding.

        Args:
            size: most examples in a batch.
            apart: pairs of more tokens than this share no batch with the others; None separates
                none.

        Yields:
            The batches, on the CPU.

        Raises:
            CircuitsError: for a size below 1.
        """
        if size < 1:
            raise InputError(f"batch size {size}: it must be at least 1")
        order = sorted(range(len(self)), key=lambda i: (-len(self.pairs[i]), i))
        longer = 0 if apart is None else sum(len(pair) > apart for pair in self.pairs)
        for group in (order[:longer], order[longer:]):
            for start in range(0, len(group), size):
                yield self.batch(group[start : start + size])

    def batch(self, index: list[int]) -> PairBatch:
        """Some of the pairs as one batch.

        Args:
            index: their indices in the set.

        Returns:
            The batch, on the CPU.
        """
        pairs = [self.pairs[i] for i in index]
        length = max(len(pair) for pair in pairs)
        answer_positions = [
            (i, len(pair.clean) - 1 + step, pair.answer[step], (pair.wrong or empty)[step])
            for i, pair in enumerate(pairs)
            for empty in [((),) * len(pair.answer)]
            for step in range(len(pair.answer))
        ]
        return PairBatch(
            clean=_padded([(*pair.clean, *pair.teacher_forced) for pair in pairs], length, 0),
            corrupted=_padded(
                [(*pair.corrupted, *pair.teacher_forced) for pair in pairs], length, 0
            ),
            mask=torch.tensor([[i < len(pair) for i in range(length)] for pair in pairs]),
            example_index=torch.tensor([entry[0] for entry in answer_positions]),
            position=torch.tensor([entry[1] for entry in answer_positions]),
            answer=_padded([entry[2] for entry in answer_positions], None, -1),
            wrong=_padded([entry[3] for entry in answer_positions], None, -1),
            index=torch.tensor(index),
            sources=tuple(pair.source for pair in pairs),
            padded=any(len(pair) < length for pair in pairs),
        )

    def save(self, path: str | Path) -> None:
        """Write the set as JSON lines: a header, then a line for each pair.

        Args:
            path: the file.
        """
        header: dict[str, object] = {"task": self.task, "split": self.split, "metric": self.metric}
        if self.skipped:
            header["skipped"] = [asdict(row) for row in self.skipped]
        lines = [json.dumps(header), *(json.dumps(asdict(pair)) for pair in self.pairs)]
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> PairSet:
        """Read what `save` wrote.

        Args:
            path: the file.

        Returns:
            The set.

        Raises:
            InputError: where the file cannot be read, by its line.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json.loads(line, object_hook=_tuples))
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not rows:
            raise InputError(f"{path}: the file is empty")
        try:
            pairs = tuple(PromptPair(**row) for row in rows[1:])
            skipped = tuple(Skipped(**row) for row in rows[0].pop("skipped", ()))
            return cls(pairs=pairs, skipped=skipped, **rows[0])
        except TypeError as error:
            raise InputError(f"{path}: not a file written by PairSet.save ({error})") from error


def _hashed(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _tuples(row: dict[str, object]) -> dict[str, object]:
    """Lists, as JSON has them, back to the tuples of a frozen pair."""

    def freeze(value: object) -> object:
        return tuple(freeze(item) for item in value) if isinstance(value, list) else value

    return {name: freeze(value) for name, value in row.items()}


def _padded(
    rows: Iterable[Sequence[int]], length: int | None, fill: int
) -> Int[Tensor, "row column"]:
    rows = list(rows)
    width = max((len(row) for row in rows), default=0) if length is None else length
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=torch.long)
