"""An article as a prompt: its tokens, and which of them each sentence stands on."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tasks.errors import CircuitsError
from tasks.sentences import core, sentence_ranges
from tasks.text import Span, encode_with_offsets, token_spans


@dataclass(frozen=True)
class Prompt:
    """A prompt's token ids and, for each sentence of the article, its half-open token range. A
    sentence that no token of its own stands for has an empty range.
    """

    ids: tuple[int, ...]
    sentences: tuple[Span, ...]


def make_prompt(
    tokenizer: PreTrainedTokenizerBase, article: str, suffix: str, bos: tuple[int, ...] = ()
) -> Prompt:
    """Tokenise `article + suffix` after the tokens `bos`."""
    ids, offsets = encode_with_offsets(tokenizer, article + suffix)
    cores = [core(article, *span) for span in sentence_ranges(article)]
    spans = token_spans(offsets, cores)
    return Prompt((*bos, *ids), tuple((start + len(bos), end + len(bos)) for start, end in spans))


def truncate(tokenizer: PreTrainedTokenizerBase, article: str, limit: int) -> str:
    """The article's first sentences, as many as stand on at most `limit` tokens."""
    _, offsets = encode_with_offsets(tokenizer, article)
    if len(offsets) <= limit:
        return article
    cores = [core(article, *span) for span in sentence_ranges(article)]
    ends = [
        end
        for (_, end), (_, tokens) in zip(cores, token_spans(offsets, cores), strict=True)
        if tokens <= limit
    ]
    if not ends:
        raise CircuitsError(
            f"the article's first sentence is longer than max_article_tokens={limit}"
        )
    return article[: ends[-1]]
