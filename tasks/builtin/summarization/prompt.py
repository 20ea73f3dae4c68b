"""An article as a prompt: its tokens, and which of them each sentence stands on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tasks.errors import InputError
from tasks.text.framing import Framed, Framing
from tasks.text.sentences import core, sentence_ranges
from tasks.text.tokens import Span, encode_with_offsets, token_spans


@dataclass(frozen=True)
class Prompt:
    """A prompt's token ids and, for each sentence of the article, its half-open token range. A
    sentence that no token of its own stands for has an empty range.
    """

    ids: tuple[int, ...]
    sentences: tuple[Span, ...]


def make_prompt(framing: Framing, article: str, suffix: str) -> tuple[Framed, Prompt]:
    """`article + suffix` as the model reads it, and its sentences."""
    framed = framing.prompt(article + suffix, offsets=True)
    return framed, Prompt(framed.ids, _sentences(article, framed.offsets))


def bare(tokenizer: PreTrainedTokenizerBase, article: str) -> Prompt:
    """An article alone, nothing before or behind it."""
    ids, offsets = encode_with_offsets(tokenizer, article)
    return Prompt(ids, _sentences(article, offsets))


def truncate(tokenizer: PreTrainedTokenizerBase, article: str, limit: int, why: str) -> str:
    """The article's first sentences, as many as stand on at most `limit` tokens. `why`: what says
    how many, for the message.
    """
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
        raise InputError(f"the article's first sentence is longer than {why}")
    return article[: ends[-1]]


def _sentences(article: str, offsets: Sequence[Span]) -> tuple[Span, ...]:
    cores = [core(article, *span) for span in sentence_ranges(article)]
    return token_spans(offsets, cores)


def shorten(tokenizer: PreTrainedTokenizerBase, article: str, tokens: int) -> str:
    """The article without its last sentences, so that it has that many tokens less, or fewer."""
    limit = len(encode_with_offsets(tokenizer, article)[0]) - tokens
    room = f"the {max(0, limit)} tokens that the context window leaves for it beside the summary"
    return truncate(tokenizer, article, limit, room)
