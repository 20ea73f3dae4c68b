"""The task `summarization`; the definition is in README.md."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, TypeVar

from transformers import PreTrainedTokenizerBase

from tasks import saved, splits
from tasks.builtin.summarization.articles import (
    Article,
    Articles,
    from_dataset,
    from_file,
    local_files,
)
from tasks.builtin.summarization.donors import Donors, lend
from tasks.builtin.summarization.prompt import Prompt, make_prompt, truncate
from tasks.errors import CircuitsError, error_context
from tasks.named_splits import Split
from tasks.pairs import PairSet, PromptPair, TrainingExample
from tasks.skipping import Kept, keep
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
    article_column, summary_column: found by themselves when called article or document, and
        highlights or summary.
    corruption: what happens to the salient sentences. "swap": text of another article, whole
        sentences where the length allows; "filler": one token repeated; "shuffle": their own tokens
        in another order.
    salient: how many sentences are corrupted at most.
    prompt: what stands between the article and the summary.
    max_article_tokens: keep the article's first sentences up to so many tokens; None keeps all.
    max_summary_tokens: keep so many tokens of the summary; None keeps all.
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

    name: ClassVar[str] = "summarization"
    metric: ClassVar[str] = "answer-log-probability"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.path is None) == (self.dataset is None):
            raise CircuitsError(
                "summarization: give either path= (a local file) or dataset= (a `datasets` name)"
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
        kept = self._kept_pairs(tokenizer, n, split, seed, n_ctx)
        return PairSet(
            tuple(pair for _, pair in kept),
            task=self.name,
            split=split,
            metric=self.metric,
            skipped=kept.skipped,
        )

    def examples(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None = None,
        *,
        split: Split = "train",
        seed: int = 0,
        n_ctx: int | None = None,
    ) -> list[TrainingExample]:
        """The articles of `pairs` (same `n`, `split`, `seed`) as prompts. The target is the summary
        and the end-of-text token; a summary cut by `max_summary_tokens` has no end.
        """
        if tokenizer.eos_token_id is None:
            raise CircuitsError("summarization: the tokenizer has no end-of-text token to train on")
        framing = self._framing(tokenizer)
        end = framing.end
        assert end is not None  # the end-of-text token, unless a template has another
        articles, order = self._draw(n, split, seed)

        def make(place: int) -> TrainingExample:
            article = articles[order[place]]
            with error_context(article.source):
                article = self._truncated(tokenizer, article)
                framed = framing.prompt(article.text + self.prompt)
                prompt, summary = framed.ids, self._summary(framing, framed, article)
                target = summary[: self.max_summary_tokens]
                if target == summary:
                    target = (*summary, end)
                _fit(len(prompt) + len(target) - 1, n_ctx)
            return TrainingExample(prompt, target, article.source)

        return self._kept(articles, order, make, n, split)

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
        articles, order = self._draw(n, split, seed)
        if self.skip:
            chosen = [index for index, _ in self._kept_pairs(tokenizer, n, split, seed, n_ctx)]
        else:
            chosen = order[:n]
        made = []
        for index in chosen:
            with error_context(articles[index].source):
                article = self._truncated(tokenizer, articles[index])
            sentences = annotate(article.text, article.summary, self.salient, self.words)
            made.append(AnnotatedArticle(article.source, article.text, article.summary, sentences))
        return made

    def _kept_pairs(
        self,
        tokenizer: PreTrainedTokenizerBase,
        n: int | None,
        split: Split,
        seed: int,
        n_ctx: int | None,
    ) -> Kept[tuple[int, PromptPair]]:
        """The pairs, each with its article's place among those of the split."""
        articles, order = self._draw(n, split, seed)
        donors = None
        if self.corruption == "swap":
            donors = Donors(tokenizer, articles, order, skip=self.skip)
        framing = self._framing(tokenizer)
        if self.skip and self.corruption == "filler":
            self._filler(tokenizer)  # where it is none, no row is at fault

        def make(place: int) -> tuple[int, PromptPair]:
            article = articles[order[place]]
            lenders = donors.after(place) if donors else []
            with error_context(article.source):
                article = self._truncated(tokenizer, article)
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
            return order[place], pair

        return self._kept(articles, order, make, n, split)

    def _kept(
        self,
        articles: Articles,
        order: list[int],
        make: Callable[[int], T],
        n: int | None,
        split: Split,
    ) -> Kept[T]:
        """What is made of the articles at places of the order."""
        return keep(
            range(len(order)),
            make,
            n,
            source=lambda place: articles.rows[order[place]].source,
            where=self._where(split),
            skip=self.skip,
            before=articles.left_out,
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
                lent = lend(lenders, span[1] - span[0], opening=opening)
                tokens = masking.swap(tokens, span, lent)
        return tokens

    def _truncated(self, tokenizer: PreTrainedTokenizerBase, article: Article) -> Article:
        if self.max_article_tokens is None:
            return article
        return replace(article, text=truncate(tokenizer, article.text, self.max_article_tokens))

    def _framing(self, tokenizer: PreTrainedTokenizerBase) -> Framing:
        if found := control_token(tokenizer, self.prompt):
            raise CircuitsError(
                f"prompt={self.prompt!r}: the control token {found[0]!r} would be read as text; "
                "for a chat template use chat=true"
            )
        return super()._framing(tokenizer)

    def _summary(self, framing: Framing, prompt: Framed, article: Article) -> tuple[int, ...]:
        """The tokens of the whole summary where it follows the prompt."""
        return framing.answer(prompt, " " + article.summary)

    def _filler(self, tokenizer: PreTrainedTokenizerBase) -> int:
        named = token_named(tokenizer, self.filler)
        if named is not None:
            return named
        ids = continuation(tokenizer, "a", self.filler)
        if len(ids) != 1:
            raise CircuitsError(
                f"filler {self.filler!r} is {len(ids)} tokens; choose a text that is one token"
            )
        return ids[0]

    def _draw(self, n: int | None, split: Split, seed: int) -> tuple[Articles, list[int]]:
        """The articles of a split and the order in which they are taken."""
        if split not in self._loaded:
            columns = (self.article_column, self.summary_column)
            self._loaded[split] = (
                from_dataset(self.dataset, split, *columns, config=self.config)
                if self.dataset is not None
                else from_file(str(self.path), split, *columns, skip=self.skip)
            )
        articles = self._loaded[split]
        return articles, splits.draw(len(articles), n, seed, self._where(split))

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
