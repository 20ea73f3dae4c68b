"""The same prompts, slightly different: does a circuit depend on the words as they stood?

Each perturbation changes both prompts of a pair in the same way and only where they agree, so that
what distinguishes them, the answer, and their equal length stay. Pairs that it cannot change are
left out; if none is left, it says so. Works on token ids with the model's tokenizer, on any task.

- `typos`           two neighbouring letters of a word exchanged, in a tenth of the longer words
- `longer`          a sentence of another pair put in after the first sentence
- `shorter`         a sentence that both prompts share taken out
- `sentence-order`  the sentences after the first in another order

A sentence ends with a token that ends with a full stop, question or exclamation mark in both
prompts; what follows the last one (a cue, an unfinished sentence) stays where it is. So does what
a chat template writes around a prompt. What a perturbation of another kind is, another template or
corruption, a task's own options say.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from transformers import PreTrainedTokenizerBase

from circuits.errors import CircuitsError
from tasks.pairs import PairSet, PromptPair
from tasks.text.tokens import control_ids

ENDS = (".", "!", "?")
RATE = 0.1
LETTERS = 4
_ROLE = 4  # tokens of a role's name and the line break behind it, at most


@dataclass(frozen=True)
class _Position:
    """One position of both prompts. fixed: the prompts differ here, or are said to."""

    clean: int
    corrupted: int
    fixed: bool


Positions = list[_Position]


def perturb(
    pairs: PairSet,
    kind: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_ctx: int | None = None,
    seed: int = 0,
) -> PairSet:
    """The pairs with another wording.

    Args:
        pairs: clean and corrupted prompts.
        kind: a key of `PERTURBATIONS`.
        tokenizer: of the pairs.
        n_ctx: the model's context length in tokens; None checks nothing.
        seed: of the changes.

    Returns:
        The pairs that can be changed so, and that do not exceed `n_ctx` then.

    Raises:
        CircuitsError: for an unknown kind, and where no pair can be changed so.
    """
    if kind not in PERTURBATIONS:
        raise CircuitsError(f"unknown perturbation {kind!r}; known: {', '.join(PERTURBATIONS)}")
    draw = random.Random(f"{kind} {seed}")
    control = control_ids(tokenizer)
    cuts = [_text(pair, control, tokenizer) for pair in pairs]
    inner = [_cut(pair, *cut) for pair, cut in zip(pairs, cuts, strict=True)]
    texts, full_texts = (
        _Texts(tokenizer, replace(pairs, pairs=tuple(inner))),
        _Texts(tokenizer, pairs),
    )
    new_pairs = []
    for number, (start, end) in enumerate(cuts):
        changed = PERTURBATIONS[kind](texts, number, draw)
        if changed is None:
            continue
        positions = full_texts.positions(number)
        pair = _pair(pairs[number], [*positions[:start], *changed, *positions[end:]], kind)
        if n_ctx is None or len(pair) <= n_ctx:
            new_pairs.append(pair)
    if not new_pairs:
        raise CircuitsError(
            f"{pairs.task} ({pairs.split}): {kind} changes no pair; {_NEEDS[kind]}, and the result "
            "must fit into the context window"
        )
    return replace(pairs, pairs=tuple(new_pairs))


def _text(
    pair: PromptPair, control: set[int], tokenizer: PreTrainedTokenizerBase
) -> tuple[int, int]:
    """Where the prompt's own text begins and ends: between the control tokens around the places
    where the two prompts differ, and behind the role that a chat template names there.
    """
    differ = [i for i, (a, b) in enumerate(zip(pair.clean, pair.corrupted, strict=True)) if a != b]
    marks = [i for i, token in enumerate(pair.clean) if token in control]
    start = max((i + 1 for i in marks if i < differ[0]), default=0)
    end = min((i for i in marks if i > differ[-1]), default=len(pair.clean))
    if start > 1:  # not just a begin token
        for position in range(start, min(start + _ROLE, differ[0])):
            if str(tokenizer.decode([pair.clean[position]])).endswith("\n"):
                return position + 1, end
    return start, end


def _cut(pair: PromptPair, start: int, end: int) -> PromptPair:
    spans = (
        (max(span_start, start) - start, min(span_end, end) - start)
        for span_start, span_end in pair.spans
    )
    return replace(
        pair,
        clean=pair.clean[start:end],
        corrupted=pair.corrupted[start:end],
        spans=tuple(span for span in spans if span[0] < span[1]),
    )


class _Texts:
    """The pairs as positions and sentences, and what tokens say."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, pairs: PairSet) -> None:
        self.tokenizer, self.pairs = tokenizer, pairs
        self._texts: dict[int, str] = {}

    def positions(self, number: int) -> Positions:
        pair = self.pairs[number]
        in_spans = {position for start, end in pair.spans for position in range(start, end)}
        return [
            _Position(a, b, a != b or position in in_spans)
            for position, (a, b) in enumerate(zip(pair.clean, pair.corrupted, strict=True))
        ]

    def sentences(self, number: int) -> tuple[list[Positions], Positions]:
        """The sentences, and what follows the last."""
        sentences: list[Positions] = [[]]
        for position in self.positions(number):
            sentences[-1].append(position)
            if self._ends(position.clean) and self._ends(position.corrupted):
                sentences.append([])
        return sentences[:-1], sentences[-1]

    def text_of(self, token: int) -> str:
        """A token's text behind another: SentencePiece's decoders drop a first token's space."""
        if token not in self._texts:
            once, twice = (
                str(self.tokenizer.decode([token] * times, clean_up_tokenization_spaces=False))
                for times in (1, 2)
            )
            self._texts[token] = twice[len(once) :]
        return self._texts[token]

    def _ends(self, token: int) -> bool:
        return self.text_of(token).rstrip().endswith(ENDS)

    def spelled(self, before: int, text: str) -> list[int] | None:
        """Tokens of a text that follows a token; None where the two would merge."""
        for first in (
            self.text_of(before),
            self.text_of(before).lstrip(),
        ):  # some prepend the space
            ids = self.tokenizer(first + text, add_special_tokens=False)["input_ids"]
            if ids[:1] == [before]:
                return list(ids[1:])
        return None


def _typos(texts: _Texts, number: int, draw: random.Random) -> Positions | None:
    """Neither the answers nor words that differ anywhere are touched: the task hangs on them."""
    positions, pair = texts.positions(number), texts.pairs[number]
    protected = {token for tokens in (*pair.answer, *pair.wrong) for token in tokens}
    protected |= {token for p in positions if p.fixed for token in (p.clean, p.corrupted)}
    new: dict[int, list[int]] = {}
    for index in range(1, len(positions)):
        token, word = positions[index].clean, texts.text_of(positions[index].clean)
        if positions[index].fixed or token in protected or len(word.strip()) < LETTERS:
            continue
        if word.strip().isalpha() and not positions[index - 1].fixed:
            spelled = texts.spelled(positions[index - 1].clean, _misspelled(word, draw))
            if spelled and spelled != [token]:
                new[index] = spelled
    if not new:
        return None
    typo_indices = draw.sample(sorted(new), max(1, round(RATE * len(new))))
    changed: Positions = []
    for index, position in enumerate(positions):
        ids = new[index] if index in typo_indices else None
        changed += [position] if ids is None else [_Position(token, token, False) for token in ids]
    return changed


def _misspelled(word: str, draw: random.Random) -> str:
    """Two neighbouring letters exchanged, the first left where it is."""
    first = len(word) - len(word.lstrip()) + 1
    index = draw.randrange(first, len(word.rstrip()) - 1)
    return word[:index] + word[index + 1] + word[index] + word[index + 2 :]


def _longer(texts: _Texts, number: int, draw: random.Random) -> Positions | None:
    sentences, rest = texts.sentences(number)
    others = [other for other in range(len(texts.pairs)) if other != number]
    for other in draw.sample(others, len(others)):
        # A first sentence may lack the space before it.
        shared = [sentence for sentence in texts.sentences(other)[0][1:] if _is_shared(sentence)]
        if sentences and shared:
            return _joined([sentences[0], draw.choice(shared), *sentences[1:], rest])
    return None


def _shorter(texts: _Texts, number: int, draw: random.Random) -> Positions | None:
    sentences, rest = texts.sentences(number)
    shared = [index for index, sentence in enumerate(sentences) if index and _is_shared(sentence)]
    if not shared:
        return None
    out = draw.choice(shared)
    return _joined([*sentences[:out], *sentences[out + 1 :], rest])


def _sentence_order(texts: _Texts, number: int, draw: random.Random) -> Positions | None:
    sentences, rest = texts.sentences(number)
    later = sentences[1:]
    if len(later) < 2:
        return None
    order = list(range(len(later)))
    while order == sorted(order):
        draw.shuffle(order)
    changed = _joined([*sentences[:1], *(later[index] for index in order), rest])
    return None if changed == texts.positions(number) else changed


def _is_shared(sentence: Sequence[_Position]) -> bool:
    return not any(position.fixed for position in sentence)


def _joined(parts: Sequence[Positions]) -> Positions:
    return [position for part in parts for position in part]


def _pair(pair: PromptPair, positions: Positions, kind: str) -> PromptPair:
    """The pair with these positions; its spans where the fixed ones stand now."""
    ends = [0]
    runs = []
    for fixed, run in groupby(positions, lambda position: position.fixed):
        ends.append(ends[-1] + len(list(run)))
        runs.append(fixed)
    spans = tuple(span for span, fixed in zip(pairwise(ends), runs, strict=True) if fixed)
    return replace(
        pair,
        clean=tuple(position.clean for position in positions),
        corrupted=tuple(position.corrupted for position in positions),
        spans=spans,
        source=f"{pair.source}, {kind}",
    )


PERTURBATIONS: dict[str, Callable[[_Texts, int, random.Random], Positions | None]] = {
    "typos": _typos,
    "longer": _longer,
    "shorter": _shorter,
    "sentence-order": _sentence_order,
}
_NEEDS = {
    "typos": f"it needs words of at least {LETTERS} letters that both prompts share",
    "longer": "it needs a sentence after the first that both prompts of another pair share",
    "shorter": "it needs a sentence after the first that both prompts share",
    "sentence-order": "it needs at least three sentences",
}
