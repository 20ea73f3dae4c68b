"""The task `summarization`; the definition is in README.md."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import ClassVar, TypeVar

from transformers import PreTrainedTokenizerBase

from tasks import saved, splits
from tasks.builtin.summarization.articles import (
    Article,
    Articles,
    from_dataset,
    from_file,
    known_dataset,
    local_files,
)
from tasks.builtin.summarization.donors import Donors, lend
from tasks.builtin.summarization.prompt import Prompt, make_prompt, shorten, truncate
from tasks.builtin.summarization.sample import DrawnSample, Sample, StreamedSample
from tasks.builtin.summarization.stream import stream_dataset, stream_file
from tasks.errors import CircuitsError, error_context
from tasks.named_splits import Split
from tasks.pairs import PairSet, PromptPair, TrainingExample
from tasks.skipping import Kept, Skipped, keep, require_enough, usable
from tasks.stored import StoredExamples
from tasks.text import masking
from tasks.text.framing import Framed, FramedTask, Framing
from tasks.text.rouge import require_words
from tasks.text.salience import AnnotatedArticle, annotate
from tasks.text.tokens import Span, continuation, control_token, token_named

T = TypeVar("T")

CORRUPTIONS = ("swap", "filler", "shuffle")


@dataclass(frozen=True)
class Summarization(FramedTask):
    """Article, " TL;DR:", summary; corrupted where the sentences that the summary needs stand.

    path: a local .jsonl, .json, .csv, .tsv or .parquet file.
    dataset: instead of a file, a name of `KNOWN_DATASETS` or what `datasets.load_dataset` takes.
    config: one of the dataset's configurations, where it has several.
    stream: go through the rows one after the other, of a dataset of any size (`stream.py`).
    article_column, summary_column: found by themselves when called article, document or dialogue,
        and highlights or summary.
    corruption: what happens to the salient sentences. "swap": text of another article, whole
        sentences where the length allows; "filler": one token repeated; "shuffle": their own tokens
        in another order.
    salient: how many sentences are corrupted at most.
    prompt: what stands between the article and the summary.
    max_article_tokens: keep the article's first sentences up to so many tokens; None keeps all.
    max_summary_tokens: keep so many tokens of the summary; None keeps all.
    fit: keep only as many of the article's first sentences as leave room, in the model's context
        window, for what stands behind them and for the summary.
    filler: the text of the filler token, or the name of a control token.
    words: what ROUGE counts: ascii (rouge-score's own words), unicode (words of any script), or
        auto (unicode where the summary has words without a-z or 0-9).
    add_bos: auto (what the tokenizer puts before a text by itself), true or false.
    chat: put the prompt into the tokenizer's chat template, and the answer behind its header.
    skip: leave out articles that cannot be used, go on to the next, and list them (`skipped` of
        what comes back).
    """

    path: str | Path | None = None
    dataset: str | None = None
    article_column: str | None = None
    summary_column: str | None = None
    corruption: str = "swap"
    salient: int = 2
    prompt: str = " TL;DR:"
    max_article_tokens: int | None = None
    max_summary_tokens: int | None = None
    filler: str = " the"
    words: str = "auto"
    config: str | None = None
    add_bos: bool | str = "auto"
    chat: bool = False
    skip: bool = False
    fit: bool = False
    stream: bool = False

    name: ClassVar[str] = "summarization"
    metric: ClassVar[str] = "answer-log-probability"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.path is None) == (self.dataset is None):
            raise CircuitsError(
                "summarization: give either path= (a local file; --data FILE, of a recipe "
                "--set data=FILE) or dataset= (a `datasets` name)"
            )
        if self.path is not None and self.config is not None:
            raise CircuitsError("config: a local file has no configurations; it goes with dataset")
        if self.path is not None and not (Path(self.path).is_file() or saved.is_saved(self.path)):
            raise CircuitsError(f"{self.path}: no such file")
        if self.corruption not in CORRUPTIONS:
            raise CircuitsError(
                f"unknown corruption {self.corruption!r}; it is one of: {', '.join(CORRUPTIONS)}"
            )
        require_words(self.words)
        for option in ("salient", "max_article_tokens", "max_summary_tokens"):
            value = getattr(self, option)
            if not (value is None and option != "salient") and not (
                isinstance(value, int) and value >= 1
            ):
                raise CircuitsError(f"{option}={value!r}: it must be a whole number, at least 1")

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, or those of a dataset that is a local folder."""
        if self.path is not None:
            return saved.files(self.path)
        return local_files(str(self.dataset))

    def pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None = None,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> PairSet:
        """`n` articles drawn by `seed` (None: all), each with its salient sentences corrupted.

        `PromptPair.spans` are those sentences' tokens; outside them the prompts are equal.
        """
        article_pairs = self._kept_pairs(tokenizer, n, split, seed, n_ctx)
        return PairSet(
            tuple(pair for _, pair in article_pairs),
            task=self.name,
            split=split,
            metric=self.metric,
            skipped=article_pairs.skipped,
        )

    def examples(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None = None,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> Sequence[TrainingExample]:
        """The articles of `pairs` (same `n`, `split`, `seed`) as prompts. The target is the summary
        and the end-of-text token; a summary cut by `max_summary_tokens` has no end. Those of a
        stream are kept on disk.
        """
        if tokenizer.eos_token_id is None:
            raise CircuitsError("summarization: the tokenizer has no end-of-text token to train on")
        framing = self._framing(tokenizer)
        end = framing.end
        assert end is not None  # the end-of-text token, unless a template has another
        sample = self._sample(n, split, seed)

        def make(index: int) -> TrainingExample:
            article = sample.article(index)
            with error_context(article.source):
                article = self._truncated(framing, article, n_ctx)
                framed = framing.prompt(article.text + self.prompt)
                prompt, summary = framed.ids, self._summary(framing, framed, article)
                target = summary[: self.max_summary_tokens]
                if target == summary:
                    target = (*summary, end)
                _fit(len(prompt) + len(target) - 1, n_ctx)
            return TrainingExample(prompt, target, article.source)

        if not self.stream:
            return self._kept(sample, make, n, split)
        left_out, skips = sample.left_out, CircuitsError if self.skip else None
        indices, source = sample.places(), sample.source
        examples = usable(indices, make, n, source=source, left_out=left_out, skips=skips)
        stored = StoredExamples(examples)
        require_enough(len(stored), n, left_out, self._where(split))
        stored.skipped = tuple(left_out)
        return stored

    def annotate(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None = None,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> list[AnnotatedArticle]:
        """The articles of `pairs` (same arguments) to look at: every sentence with its ROUGE score,
        the corrupted ones marked.
        """
        if self.skip:
            article_pairs = self._kept_pairs(tokenizer, n, split, seed, n_ctx)
            return [self._annotated(article) for article, _ in article_pairs]
        framing, sample, articles = self._framing(tokenizer), self._sample(n, split, seed), []
        for index in islice(sample.places(), n):
            article = sample.article(index)
            with error_context(article.source):
                articles.append(self._annotated(self._truncated(framing, article, n_ctx)))
        return articles

    def _annotated(self, article: Article) -> AnnotatedArticle:
        sentences = annotate(article.text, article.summary, self.salient, self.words)
        return AnnotatedArticle(article.source, article.text, article.summary, sentences)

    def _kept_pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None,
        split: Split,
        seed: int,
        n_ctx: int | None,
    ) -> Kept[tuple[Article, PromptPair]]:
        """The pairs, each with its article."""
        sample = self._sample(n, split, seed)
        donors = None
        if self.corruption == "swap":
            donors = Donors(tokenizer, sample, skip=self.skip)
        framing = self._framing(tokenizer)
        if self.skip and self.corruption == "filler":
            self._filler(tokenizer)  # where it is none, no row is at fault

        def make(index: int) -> tuple[Article, PromptPair]:
            article = sample.article(index)
            lenders = donors.after(index) if donors else []
            with error_context(article.source):
                article = self._truncated(framing, article, n_ctx)
                framed, prompt = make_prompt(framing, article.text, self.prompt)
                answer = self._summary(framing, framed, article)[: self.max_summary_tokens]
                _fit(len(prompt.ids) + len(answer) - 1, n_ctx)
                spans = self._salient(article, prompt)
                corrupted = self._corrupt(tokenizer, prompt, spans, lenders, seed)
            pair = PromptPair(
                clean=prompt.ids,
                corrupted=corrupted,
                answer=tuple((token,) for token in answer),
                spans=spans,
                source=article.source,
            )
            return article, pair

        return self._kept(sample, make, n, split)

    def _kept(
        self, sample: Sample, make: Callable[[int], T], n: int | None, split: Split
    ) -> Kept[T]:
        """What is made of the articles of a sample."""
        return keep(
            sample.places(),
            make,
            n,
            source=sample.source,
            where=self._where(split),
            left_out=sample.left_out,
            skips=CircuitsError if self.skip else None,
        )

    def _salient(self, article: Article, prompt: Prompt) -> tuple[Span, ...]:
        """The token spans of the salient sentences."""
        sentences = annotate(article.text, article.summary, self.salient, self.words)
        spans = tuple(
            span
            for span, sentence in zip(prompt.sentences, sentences, strict=True)
            if sentence.salient and span[0] < span[1]
        )
        if not spans:
            raise CircuitsError(
                "no sentence of the article shares a word with the summary, so none is salient; "
                "leave the row out"
            )
        return spans

    def _corrupt(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Prompt,
        spans: tuple[Span, ...],
        lenders: list[Prompt],
        seed: int,
    ) -> tuple[int, ...]:
        tokens = prompt.ids
        if self.corruption == "filler":
            token = self._filler(tokenizer)
            for span in spans:
                tokens = masking.filler(tokens, span, token)
        elif self.corruption == "shuffle":
            # Seeded by the prompt too, so that its order does not depend on the rest of the sample.
            rng = random.Random(f"{seed} {prompt.ids}")
            for span in spans:
                tokens = masking.shuffle(tokens, span, rng)
        else:
            for span in spans:
                opening = span == prompt.sentences[0]
                loan = lend(lenders, span[1] - span[0], opening=opening)
                tokens = masking.swap(tokens, span, loan)
        return tokens

    def _truncated(self, framing: Framing, article: Article, n_ctx: int | None) -> Article:
        """The article, cut where it is longer than asked for, or where the summary has no room."""
        text, limit = article.text, self.max_article_tokens
        if limit is not None:
            text = truncate(framing.tokenizer, text, limit, f"max_article_tokens={limit}")
        while self.fit and n_ctx is not None:
            framed = framing.prompt(text + self.prompt)
            summary = self._summary(framing, framed, article)[: self.max_summary_tokens]
            # The last token of what follows is not fed: of an example, the end-of-text token.
            excess = len(framed.ids) + len(summary) - n_ctx
            if excess <= 0:
                break
            text = shorten(framing.tokenizer, text, excess)
        return replace(article, text=text)

    def _framing(self, tokenizer: PreTrainedTokenizerBase) -> Framing:
        if control := control_token(tokenizer, self.prompt):
            raise CircuitsError(
                f"prompt={self.prompt!r}: the control token {control[0]!r} would be read as text; "
                "for a chat template use chat=true"
            )
        return super()._framing(tokenizer)

    def _summary(self, framing: Framing, prompt: Framed, article: Article) -> tuple[int, ...]:
        """The tokens of the whole summary where it follows the prompt."""
        return framing.answer(prompt, " " + article.summary)

    def _filler(self, tokenizer: PreTrainedTokenizerBase) -> int:
        token = token_named(tokenizer, self.filler)
        if token is not None:
            return token
        ids = continuation(tokenizer, "a", self.filler)
        if len(ids) != 1:
            raise CircuitsError(
                f"filler {self.filler!r} is {len(ids)} tokens; choose a text that is one token"
            )
        return ids[0]

    def _sample(self, n: int | None, split: Split, seed: int) -> Sample:
        """The articles of a split in the order in which they are taken."""
        if self.stream:
            return self._streamed(n, split, seed)
        if split not in self._loaded:
            columns = (self.article_column, self.summary_column)
            self._loaded[split] = (
                from_dataset(self.dataset, split, *columns, config=self.config)
                if self.dataset is not None
                else from_file(str(self.path), split, *columns, skip=self.skip)
            )
        articles = self._loaded[split]
        order = splits.draw(len(articles), n, seed, self._where(split))
        return DrawnSample(articles, order, [*articles.left_out])

    def _streamed(self, n: int | None, split: Split, seed: int) -> Sample:
        """The same from a stream, mixed by `seed` unless all are taken."""
        splits.check_number(n)
        shuffle_seed = None if n is None else seed
        left_out: list[Skipped] = []
        columns = (self.article_column, self.summary_column)
        if self.dataset is None:
            file_left_out = left_out if self.skip else None
            rows = stream_file(
                str(self.path), split, columns[0], seed=shuffle_seed, left_out=file_left_out
            )
        else:
            rows = stream_dataset(self.dataset, split, config=self.config, seed=shuffle_seed)
            entry = known_dataset(self.dataset)
            if entry is not None:
                columns = (columns[0] or entry.article, columns[1] or entry.summary)
        return StreamedSample(rows, columns, left_out)

    def _where(self, split: Split) -> str:
        return f"{self.dataset or Path(str(self.path)).name}, split {split!r}"

    @cached_property
    def _loaded(self) -> dict[Split, Articles]:
        return {}


def _fit(tokens: int, n_ctx: int | None) -> None:
    if n_ctx is not None and tokens > n_ctx:
        raise CircuitsError(
            f"{tokens} tokens (summary included), but the model's context window holds {n_ctx}; "
            "set max_article_tokens (and max_summary_tokens), or leave the row out"
        )
