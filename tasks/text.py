"""From text to token ids, as the tokenizer does by itself: no special tokens are added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from tasks.errors import CircuitsError

Span = tuple[int, int]


class Encoding(NamedTuple):
    """Token ids, and for each the half-open range of characters that it stands for."""

    ids: tuple[int, ...]
    offsets: tuple[Span, ...]


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """The token ids of a text."""
    return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def encode_with_offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> Encoding:
    """The token ids of a text and where each stands in it. Needs a fast tokenizer."""
    if not tokenizer.is_fast:
        raise CircuitsError(
            f"the tokenizer {type(tokenizer).__name__} is a slow one, which does not tell where a "
            "token stands in the text; load the model's fast tokenizer (tokenizer.json)"
        )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return Encoding(
        tuple(encoded["input_ids"]), tuple((start, end) for start, end in encoded["offset_mapping"])
    )


def continuation(tokenizer: PreTrainedTokenizerBase, text: str, addition: str) -> tuple[int, ...]:
    """The tokens that `addition` contributes when it follows `text`.

    Both are tokenised as one text, because some tokenizers treat the beginning of a text apart. An
    addition that merges with the end of the text is refused: the prompt's own tokens would change.
    """
    before, both = encode(tokenizer, text), encode(tokenizer, text + addition)
    if both[: len(before)] != before:
        raise CircuitsError(
            f"{addition[:40]!r} merges with the end of {text[-20:]!r} into other tokens; begin it "
            "with a space, or end the text elsewhere"
        )
    return both[len(before) :]


def beginning(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the tokenizer's beginning-of-text token."""
    if tokenizer.bos_token_id is None:
        raise CircuitsError("add_bos: the tokenizer has no beginning-of-text token")
    return int(tokenizer.bos_token_id)


def token_spans(offsets: Sequence[Span], ranges: Sequence[Span]) -> tuple[Span, ...]:
    """For each range of characters, in order and apart, the tokens that overlap it.

    A token that overlaps two ranges goes to the first. A range that no token is left for comes back
    as an empty span.
    """
    spans = []
    token = 0
    for start, end in ranges:
        while token < len(offsets) and offsets[token][1] <= start:
            token += 1
        first = token
        while token < len(offsets) and offsets[token][0] < end:
            token += 1
        spans.append((first, token))
    return tuple(spans)
