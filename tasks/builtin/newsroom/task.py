"""Summarising newsroom articles, with four ways to corrupt the salient sentences.

- `counterfactual`: the same templates with other key facts; the twin's summary tokens are the
  wrong answers wherever they differ, and the metric is the logit difference.
- `filler`, `swap`, `shuffle`: see `tasks.text.masking`; no wrong answers, and the metric is the
  log-probability of the reference summary.

Cost: text generation and tokenisation only, about a millisecond a pair.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedTokenizerBase

from tasks.builtin.newsroom.articles import Article, Story, stories
from tasks.errors import CircuitsError
from tasks.named_splits import Split
from tasks.pairs import PairSet, PromptPair, TokenSet, TrainingExample
from tasks.text import masking
from tasks.text.framing import Framed, FramedTask, Framing
from tasks.text.salience import AnnotatedArticle, Sentence, rouge
from tasks.text.tokens import Span, encode_with_offsets, token_spans

CORRUPTIONS = ("counterfactual", "filler", "swap", "shuffle")

CUE = " TL;DR:"
SWAP_POOL = 64  # stories that replacement sentences are taken from


@dataclass(frozen=True)
class Newsroom(FramedTask):
    """The synthetic newsroom: `<article> TL;DR:` is followed by a one-sentence summary.

    corruption: what happens to the salient sentences: counterfactual (the same with other facts),
        filler (one token repeated), swap (other stories' sentences), or shuffle (their own tokens
        in another order).
    add_bos: auto (what the tokenizer puts before a text by itself), true or false.
    chat: put the prompt into the tokenizer's chat template, and the answer behind its header.
    """

    corruption: str = "counterfactual"
    add_bos: bool | str = "auto"
    chat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.corruption not in CORRUPTIONS:
            raise CircuitsError(
                f"newsroom: unknown corruption {self.corruption!r}; known: {', '.join(CORRUPTIONS)}"
            )

    @property
    def name(self) -> str:
        """The task's name."""
        return "newsroom"

    @property
    def metric(self) -> str:
        """The logit difference where there are wrong answers, else the log-probability."""
        return (
            "logit-difference" if self.corruption == "counterfactual" else "answer-log-probability"
        )

    def pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> PairSet:
        """`n` pairs; the spans are the salient sentences. Refuses what exceeds `context`."""
        rng = random.Random(f"newsroom {self.corruption} {split} {seed}")
        pool = _sentences(tokenizer, split) if self.corruption == "swap" else []
        framing = self._framing(tokenizer)
        pairs = tuple(
            self._pair(framing, story, source, rng, pool) for story, source in _told(n, split, seed)
        )
        pair_set = PairSet(pairs, task=self.name, split=split, metric=self.metric)
        pair_set.validate(d_vocab=len(tokenizer), n_ctx=n_ctx)
        return pair_set

    def examples(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> list[TrainingExample]:
        """`n` articles with their summaries; example i is the clean side of pair i."""
        framing, examples = self._framing(tokenizer), []
        for story, source in _told(n, split, seed):
            prompt, _ = _prompt(framing, story.article)
            example = TrainingExample(prompt.ids, _target(framing, prompt, story.article), source)
            length = len(example.prompt) + len(example.target) - 1
            if n_ctx is not None and length > n_ctx:
                raise CircuitsError(
                    f"{source}: {length} tokens (summary included), but the model's context "
                    f"window holds {n_ctx}"
                )
            examples.append(example)
        return examples

    def annotate(
        self,
        tokenizer: PreTrainedTokenizerBase,  # noqa: ARG002 - other tasks truncate by it
        n: int,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,  # noqa: ARG002 - other tasks leave out what exceeds it
    ) -> list[AnnotatedArticle]:
        """The articles of `pairs` (same `n`, `split`, `seed`), the salient sentences marked."""
        articles = []
        for story, source in _told(n, split, seed):
            article = story.article
            sentences = tuple(
                Sentence(text, *span, rouge(article.summary, text), index in article.salient)
                for index, (text, span) in enumerate(
                    zip(article.sentences, article.ranges, strict=True)
                )
            )
            articles.append(AnnotatedArticle(source, article.text, article.summary, sentences))
        return articles

    def _pair(
        self,
        framing: Framing,
        story: Story,
        source: str,
        rng: random.Random,
        pool: list[tuple[int, ...]],
    ) -> PromptPair:
        prompt, spans = _prompt(framing, story.article)
        target = _target(framing, prompt, story.article)
        wrong_sets: tuple[TokenSet, ...] = ()
        clean = corrupted = prompt.ids
        if self.corruption == "counterfactual":
            twin, _ = _prompt(framing, story.twin)
            corrupted = twin.ids
            wrong_sets = _wrong(target, _target(framing, twin, story.twin), source)
        elif self.corruption == "filler":
            for span in spans:
                corrupted = masking.filler(corrupted, span, _end_of_text(framing.tokenizer))
        elif self.corruption == "swap":
            for start, end in spans:
                candidates = [s for s in pool if len(s) >= end - start and s != clean[start:end]]
                shortest = min(map(len, candidates))
                sentence = rng.choice([s for s in candidates if len(s) == shortest])
                corrupted = masking.swap(corrupted, (start, end), sentence)
        else:
            for span in spans:
                corrupted = masking.shuffle(corrupted, span, rng)
        return PromptPair(
            clean=clean,
            corrupted=corrupted,
            answer=tuple((token,) for token in target),
            wrong=wrong_sets,
            spans=spans,
            source=source,
        )


def _told(n: int, split: Split, seed: int) -> Iterator[tuple[Story, str]]:
    if n < 1:
        raise CircuitsError(f"newsroom: {n} articles asked for; at least 1 is needed")
    for number, story in enumerate(islice(stories(split, seed=seed), n)):
        yield story, f"newsroom {split} article {number}"


def _prompt(framing: Framing, article: Article) -> tuple[Framed, tuple[Span, ...]]:
    """`<article> TL;DR:` and the token ranges of the salient sentences."""
    prompt = framing.prompt(article.text + CUE, offsets=True)
    spans = token_spans(prompt.offsets, article.ranges)
    return prompt, tuple(spans[i] for i in article.salient)


def _target(framing: Framing, prompt: Framed, article: Article) -> tuple[int, ...]:
    """Token ids of the summary behind the prompt, its end included."""
    end = _end_of_text(framing.tokenizer) if framing.end is None else framing.end
    return (*framing.answer(prompt, f" {article.summary}"), end)


def _wrong(
    right_ids: tuple[int, ...], counterfactual_ids: tuple[int, ...], source: str
) -> tuple[TokenSet, ...]:
    if len(right_ids) != len(counterfactual_ids):
        raise CircuitsError(
            f"{source}: the summary has {len(right_ids)} tokens and the counterfactual one "
            f"{len(counterfactual_ids)}, as this tokenizer splits some slot words; use another "
            "corruption (swap, shuffle, filler) or the newsroom tokenizer"
        )
    return tuple(() if a == b else (b,) for a, b in zip(right_ids, counterfactual_ids, strict=True))


def _end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.eos_token_id is None:
        raise CircuitsError("newsroom: the tokenizer has no end-of-text token; set eos_token")
    return int(tokenizer.eos_token_id)


def _sentences(tokenizer: PreTrainedTokenizerBase, split: Split) -> list[tuple[int, ...]]:
    """Sentences of other articles of the split, as token ids."""
    sentences = []
    for story in islice(stories(split, seed="swap"), SWAP_POOL):
        ids, offsets = encode_with_offsets(tokenizer, story.article.text)
        ranges = token_spans(offsets, story.article.ranges)
        sentences += [ids[start:end] for start, end in ranges]
    return sentences
