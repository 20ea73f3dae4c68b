"""One article of the evaluation set, laid open for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from circuits.runs.records import ExampleFile, ExampleSentence, Segment
from tasks.named_splits import Split
from tasks.pairs import PairSet, PromptPair
from tasks.task import ArticleTask, Task


def example_article(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    pairs: PairSet,
    conditions: Mapping[str, PairSet],
    *,
    split: Split,
    seed: int,
    n_ctx: int | None = None,
) -> ExampleFile:
    """The first evaluation pair as text: its sentences, and what each corruption makes of it.

    conditions: pair sets of the same articles under other corruptions.
    """
    first = pairs[0]
    answer = _text(tokenizer, [tokens[0] for tokens in first.answer]).strip()
    sentences: tuple[ExampleSentence, ...] = ()
    if isinstance(task, ArticleTask):
        (article,) = task.annotate(tokenizer, 1, split=split, seed=seed, n_ctx=n_ctx)
        answer = article.summary
        sentences = tuple(
            ExampleSentence(text=sentence.text, score=sentence.score, salient=sentence.salient)
            for sentence in article.sentences
        )
    own_corruption = str(getattr(task, "corruption", "corrupted"))
    twins = {name: pair_set[0] for name, pair_set in {own_corruption: pairs, **conditions}.items()}
    return ExampleFile(
        title=first.source,
        sentences=sentences,
        answer=answer,
        clean_prompt=_text(tokenizer, first.clean),
        corruptions={
            name: _segments(tokenizer, twin) if twin.spans else _words(tokenizer, twin)
            for name, twin in twins.items()
            if twin.clean == first.clean
        },
    )


def _segments(tokenizer: PreTrainedTokenizerBase, pair: PromptPair) -> tuple[Segment, ...]:
    """The corrupted prompt's text, cut where the corrupted spans begin and end."""
    cuts = sorted({0, len(pair.clean), *(position for span in pair.spans for position in span)})
    return tuple(
        Segment(
            text=_behind(tokenizer, pair.corrupted, start, end),
            corrupted=any(low <= start < high for low, high in pair.spans),
        )
        for start, end in pairwise(cuts)
    )


def _words(tokenizer: PreTrainedTokenizerBase, pair: PromptPair) -> tuple[Segment, ...]:
    """The corrupted prompt's text, cut where its words begin and cease to be the clean ones."""
    clean, corrupted = (
        _text(tokenizer, prompt).split(" ") for prompt in (pair.clean, pair.corrupted)
    )
    changes = SequenceMatcher(None, clean, corrupted, False).get_opcodes()
    return tuple(
        Segment(text=" ".join(corrupted[start:end]) + " ", corrupted=kind != "equal")
        for kind, _, _, start, end in changes
        if end > start
    )


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
