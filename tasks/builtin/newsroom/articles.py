"""Short synthetic news articles with a known salient fact and a reference summary.

An article is a lead sentence that reports an event, sometimes a detail sentence right after it, and
filler sentences about other people and places. The summary compresses lead and detail. Its twin is
the same article with every word of the salient sentences' slots exchanged: same templates, other
key facts, hence other summary words at the same places.

Within a story no slot word occurs twice in different roles: fillers never name a key fact of the
article or of its twin. The words and templates stand in `words.json`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import islice, product
from string import Formatter
from typing import TypedDict

from tasks.errors import CircuitsError
from tasks.named_splits import Split

NamePair = tuple[str, str]

SPLIT_SHARES: Mapping[Split, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
FILLERS = (3, 4)


@dataclass(frozen=True)
class Article:
    """One article.

    kind: the event that it reports, as in `words.json`.
    sentences: in reading order.
    salient: indices of the sentences that the summary is made of.
    summary: the reference summary, one sentence.
    facts: the slot words of the salient sentences, by slot.
    """

    kind: str
    sentences: tuple[str, ...]
    salient: tuple[int, ...]
    summary: str
    facts: Mapping[str, str]

    @property
    def text(self) -> str:
        """The sentences joined by spaces."""
        return " ".join(self.sentences)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Half-open character range of each sentence in `text`."""
        ranges, start = [], 0
        for sentence in self.sentences:
            ranges.append((start, start + len(sentence)))
            start += len(sentence) + 1
        return tuple(ranges)


@dataclass(frozen=True)
class Story:
    """An article and its twin, which differs in the salient sentences and the summary only."""

    article: Article
    twin: Article


class EventWords(TypedDict):
    """One kind of event, as `words.json` defines it: templates of its sentences."""

    kind: str
    section: str
    leads: list[str]
    summary: str
    followup: str


class DetailWords(TypedDict):
    """The detail sentences: how large a share of the articles has one, and their templates."""

    share: float
    sentences: list[str]
    summary: str


class Words(TypedDict):
    """The content of `words.json`; `words` are by slot."""

    version: int
    words: dict[str, list[str]]
    events: list[EventWords]
    detail: DetailWords
    fillers: list[str]
    followups: list[str]
    tag: str


@cache
def definition() -> Words:
    """The content of `words.json`: slot words, event templates, fillers."""
    text = files("tasks.builtin.newsroom").joinpath("words.json").read_text(encoding="utf-8")
    content: Words = json.loads(text)
    return content


def slot_words() -> tuple[str, ...]:
    """Every word that can fill a slot, sorted."""
    return tuple(sorted(word for words in definition()["words"].values() for word in words))


@cache
def name_pairs(split: Split) -> tuple[NamePair, ...]:
    """The (first, last) names that people of this split may bear; splits share no pair."""
    words = definition()["words"]
    pairs = list(product(words["first"], words["last"]))
    random.Random("newsroom names").shuffle(pairs)
    start = 0
    for name, share in SPLIT_SHARES.items():
        end = start + round(share * len(pairs))
        if name == split:
            return tuple(pairs[start:end])
        start = end
    raise CircuitsError(f"newsroom: no split {split!r}; it has: {', '.join(SPLIT_SHARES)}")


def stories(split: Split, *, seed: int | str = 0) -> Iterator[Story]:
    """Endless stories.

    Args:
        split: which names and events they are made of.
        seed: the same one gives the same stories.

    Yields:
        One story after the other.
    """
    rng = random.Random(f"newsroom {definition()['version']} {split} {seed}")
    while True:
        yield _story(rng, split)


def articles(n: int, *, split: Split = "test", seed: int | str = 0) -> list[Article]:
    """The first articles of a split.

    Args:
        n: how many.
        split: as for `stories`.
        seed: as for `stories`.

    Returns:
        The articles, in the order in which the task uses them.
    """
    return [story.article for story in islice(stories(split, seed=seed), n)]


class _Draw:
    """Draws slot words without replacement, so that no word plays two roles in a story."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        self._rng = rng
        self._names = name_pairs(split)
        self._used: set[str] = set()

    def facts(self, *templates: str) -> dict[str, str]:
        """A fresh word for each slot of the templates."""
        slots = _slots(*templates)
        facts = {slot: self._word(slot) for slot in slots if slot not in ("first", "last")}
        if "first" in slots:
            facts["first"], facts["last"] = self._name()
        return facts

    def _word(self, slot: str) -> str:
        words = definition()["words"][slot]
        word = self._rng.choice([word for word in words if word not in self._used])
        self._used.add(word)
        return word

    def _name(self) -> NamePair:
        while True:
            pair = self._rng.choice(self._names)
            if not self._used & {*pair}:
                self._used |= {*pair}
                return pair


def _story(rng: random.Random, split: Split) -> Story:
    content = definition()
    event = rng.choice(content["events"])
    salient_templates = [rng.choice(event["leads"])]
    summary = event["summary"]
    if rng.random() < content["detail"]["share"]:
        salient_templates.append(rng.choice(content["detail"]["sentences"]))
        summary += content["detail"]["summary"]
    summary += "."

    draw = _Draw(rng, split)
    clean_facts, other_facts = draw.facts(*salient_templates), draw.facts(*salient_templates)
    fillers = rng.sample(content["fillers"], rng.randint(*FILLERS))
    n_before = rng.randint(0, len(fillers))
    filler_sentences = [template.format(**draw.facts(template)) for template in fillers]

    def article(facts: Mapping[str, str]) -> Article:
        key = [template.format(**facts) for template in salient_templates]
        return Article(
            kind=event["kind"],
            sentences=(*filler_sentences[:n_before], *key, *filler_sentences[n_before:]),
            salient=tuple(range(n_before, n_before + len(key))),
            summary=summary.format(**facts),
            facts=facts,
        )

    return Story(article(clean_facts), article(other_facts))


@cache
def _slots(*templates: str) -> tuple[str, ...]:
    """Slots in order of appearance, each once."""
    names = (name for text in templates for _, name, _, _ in Formatter().parse(text) if name)
    return tuple(dict.fromkeys(names))
