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
class _Place:
    """One position of both prompts. fixed: the prompts differ here, or are said to."""

    clean: int
    corrupted: int
    fixed: bool


Places = list[_Place]


def perturb(
    pairs: PairSet,
    kind: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_ctx: int | None = None,
    seed: int = 0,
) -> PairSet:
    """The pairs perturbed; those that cannot be, or that would exceed `context`, are left out."""
    if kind not in PERTURBATIONS:
        raise CircuitsError(f"unknown perturbation {kind!r}; known: {', '.join(PERTURBATIONS)}")
    draw = random.Random(f"{kind} {seed}")
    control = control_ids(tokenizer)
    cuts = [_text(pair, control, tokenizer) for pair in pairs]
    inner = [_cut(pair, *cut) for pair, cut in zip(pairs, cuts, strict=True)]
    texts, whole = _Texts(tokenizer, replace(pairs, pairs=tuple(inner))), _Texts(tokenizer, pairs)
    made = []
    for number, (start, end) in enumerate(cuts):
        changed = PERTURBATIONS[kind](texts, number, draw)
        if changed is None:
            continue
        places = whole.places(number)
        pair = _pair(pairs[number], [*places[:start], *changed, *places[end:]], kind)
        if n_ctx is None or len(pair) <= n_ctx:
            made.append(pair)
    if not made:
        raise CircuitsError(
            f"{pairs.task} ({pairs.split}): {kind} changes no pair; {_NEEDS[kind]}, and the result "
            "must fit into the context window"
        )
    return replace(pairs, pairs=tuple(made))


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
        for place in range(start, min(start + _ROLE, differ[0])):
            if str(tokenizer.decode([pair.clean[place]])).endswith("\n"):
                return place + 1, end
    return start, end


def _cut(pair: PromptPair, start: int, end: int) -> PromptPair:
    spans = ((max(one, start) - start, min(other, end) - start) for one, other in pair.spans)
    return replace(
        pair,
        clean=pair.clean[start:end],
        corrupted=pair.corrupted[start:end],
        spans=tuple(span for span in spans if span[0] < span[1]),
    )


class _Texts:
    """The pairs as places and sentences, and what tokens say."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, pairs: PairSet) -> None:
        self.tokenizer, self.pairs = tokenizer, pairs
        self._said: dict[int, str] = {}

    def places(self, number: int) -> Places:
        pair = self.pairs[number]
        said = {place for start, end in pair.spans for place in range(start, end)}
        return [
            _Place(a, b, a != b or place in said)
            for place, (a, b) in enumerate(zip(pair.clean, pair.corrupted, strict=True))
        ]

    def sentences(self, number: int) -> tuple[list[Places], Places]:
        """The sentences, and what follows the last."""
        found: list[Places] = [[]]
        for place in self.places(number):
            found[-1].append(place)
            if self._ends(place.clean) and self._ends(place.corrupted):
                found.append([])
        return found[:-1], found[-1]

    def said(self, token: int) -> str:
        """A token's text behind another: SentencePiece's decoders drop a first token's space."""
        if token not in self._said:
            once, twice = (
                str(self.tokenizer.decode([token] * times, clean_up_tokenization_spaces=False))
                for times in (1, 2)
            )
            self._said[token] = twice[len(once) :]
        return self._said[token]

    def _ends(self, token: int) -> bool:
        return self.said(token).rstrip().endswith(ENDS)

    def spelled(self, before: int, text: str) -> list[int] | None:
        """Tokens of a text that follows a token; None where the two would merge."""
        for first in (self.said(before), self.said(before).lstrip()):  # some prepend the space
            ids = self.tokenizer(first + text, add_special_tokens=False)["input_ids"]
            if ids[:1] == [before]:
                return list(ids[1:])
        return None


def _typos(texts: _Texts, number: int, draw: random.Random) -> Places | None:
    """Neither the answers nor words that differ anywhere are touched: the task hangs on them."""
    places, pair = texts.places(number), texts.pairs[number]
    kept = {token for tokens in (*pair.answer, *pair.wrong) for token in tokens}
    kept |= {token for place in places if place.fixed for token in (place.clean, place.corrupted)}
    new: dict[int, list[int]] = {}
    for at in range(1, len(places)):
        token, word = places[at].clean, texts.said(places[at].clean)
        if places[at].fixed or token in kept or len(word.strip()) < LETTERS:
            continue
        if word.strip().isalpha() and not places[at - 1].fixed:
            spelled = texts.spelled(places[at - 1].clean, _misspelled(word, draw))
            if spelled and spelled != [token]:
                new[at] = spelled
    if not new:
        return None
    chosen = draw.sample(sorted(new), max(1, round(RATE * len(new))))
    changed: Places = []
    for at, place in enumerate(places):
        ids = new[at] if at in chosen else None
        changed += [place] if ids is None else [_Place(token, token, False) for token in ids]
    return changed


def _misspelled(word: str, draw: random.Random) -> str:
    """Two neighbouring letters exchanged, the first left where it is."""
    first = len(word) - len(word.lstrip()) + 1
    at = draw.randrange(first, len(word.rstrip()) - 1)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _longer(texts: _Texts, number: int, draw: random.Random) -> Places | None:
    sentences, rest = texts.sentences(number)
    others = [other for other in range(len(texts.pairs)) if other != number]
    for other in draw.sample(others, len(others)):
        # A first sentence may lack the space before it.
        shared = [one for one in texts.sentences(other)[0][1:] if _is_shared(one)]
        if sentences and shared:
            return _joined([sentences[0], draw.choice(shared), *sentences[1:], rest])
    return None


def _shorter(texts: _Texts, number: int, draw: random.Random) -> Places | None:
    sentences, rest = texts.sentences(number)
    shared = [at for at, one in enumerate(sentences) if at and _is_shared(one)]
    if not shared:
        return None
    out = draw.choice(shared)
    return _joined([*sentences[:out], *sentences[out + 1 :], rest])


def _sentence_order(texts: _Texts, number: int, draw: random.Random) -> Places | None:
    sentences, rest = texts.sentences(number)
    later = sentences[1:]
    if len(later) < 2:
        return None
    order = list(range(len(later)))
    while order == sorted(order):
        draw.shuffle(order)
    changed = _joined([*sentences[:1], *(later[at] for at in order), rest])
    return None if changed == texts.places(number) else changed


def _is_shared(sentence: Sequence[_Place]) -> bool:
    return not any(place.fixed for place in sentence)


def _joined(parts: Sequence[Places]) -> Places:
    return [place for part in parts for place in part]


def _pair(pair: PromptPair, places: Places, kind: str) -> PromptPair:
    """The pair with these places; its spans where the fixed ones stand now."""
    ends = [0]
    runs = []
    for fixed, run in groupby(places, lambda place: place.fixed):
        ends.append(ends[-1] + len(list(run)))
        runs.append(fixed)
    spans = tuple(span for span, fixed in zip(pairwise(ends), runs, strict=True) if fixed)
    return replace(
        pair,
        clean=tuple(place.clean for place in places),
        corrupted=tuple(place.corrupted for place in places),
        spans=spans,
        source=f"{pair.source}, {kind}",
    )


PERTURBATIONS: dict[str, Callable[[_Texts, int, random.Random], Places | None]] = {
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
