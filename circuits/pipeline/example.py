"""One article of the evaluation set, laid open for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

from tasks.pairs import PairSet, PromptPair
from tasks.task import ArticleTask, Task


def example_article(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    pairs: PairSet,
    conditions: Mapping[str, PairSet],
    *,
    split: Any,
    seed: int,
    n_ctx: int | None = None,
) -> dict[str, Any]:
    """The first evaluation pair as text: its sentences, and what each corruption makes of it.

    conditions: pair sets of the same articles under other corruptions.
    """
    first = pairs[0]
    shown: dict[str, Any] = {
        "title": first.source,
        "sentences": [],
        "summary": _text(tokenizer, [tokens[0] for tokens in first.answer]).strip(),
        "clean_prompt": _text(tokenizer, first.clean),
        "corruptions": {},
        "segments": {},
    }
    if isinstance(task, ArticleTask):
        (article,) = task.annotate(tokenizer, 1, split=split, seed=seed, n_ctx=n_ctx)
        shown["summary"] = article.summary
        shown["sentences"] = [
            {"text": sentence.text, "score": sentence.score, "salient": sentence.salient}
            for sentence in article.sentences
        ]
    own = str(getattr(task, "corruption", "corrupted"))
    for name, others in {own: pairs, **conditions}.items():
        twin = others[0]
        if twin.clean == first.clean:
            shown["corruptions"][name] = _text(tokenizer, twin.corrupted)
            shown["segments"][name] = _segments(tokenizer, twin)
    return shown


def _segments(tokenizer: PreTrainedTokenizerBase, pair: PromptPair) -> list[dict[str, Any]]:
    """The corrupted prompt's text, cut where the corrupted spans begin and end."""
    cuts = sorted({0, len(pair.clean), *(place for span in pair.spans for place in span)})
    return [
        {
            "text": _behind(tokenizer, pair.corrupted, start, end),
            "corrupted": any(low <= start < high for low, high in pair.spans),
        }
        for start, end in pairwise(cuts)
    ]


def _behind(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], start: int, end: int) -> str:
    """The text of some tokens where they stand: SentencePiece's decoders drop the space of those
    that they are given first. Where a letter is cut in two, as the tokens are by themselves.
    """
    before, through = _text(tokenizer, tokens[:start]), _text(tokenizer, tokens[:end])
    if through.startswith(before):
        return through[len(before) :]
    return _text(tokenizer, tokens[start:end])


def _text(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))
