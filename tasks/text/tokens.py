"""From text to token ids and back, and what a tokenizer adds to a text by itself.

A text is text: a control token written in it (`<|endoftext|>` in an article) is encoded as the
characters that it is written with, unless it is asked for. What follows a prompt is encoded where
it stands, because some tokenizers treat the beginning of a text apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from tasks.errors import InputError

Span = tuple[int, int]

_TAIL = 16  # of a prompt's last tokens, how many are tried as what an addition stands behind
_WORD = "the"  # what an addition is taken to stand behind where nothing is known of it


class Encoding(NamedTuple):
    """Token ids, and for each the half-open range of characters that it stands for."""

    ids: tuple[int, ...]
    offsets: tuple[Span, ...]


def encode(
    tokenizer: PreTrainedTokenizerBase, text: str, *, control: bool = False
) -> tuple[int, ...]:
    """The token ids of a text, nothing added.

    Args:
        tokenizer: of the model.
        text: the text.
        control: read the control tokens that are written in it as such.

    Returns:
        The ids.
    """
    return tuple(tokenizer(text, **_arguments(tokenizer, text, control))["input_ids"])


def encode_with_offsets(
    tokenizer: PreTrainedTokenizerBase, text: str, *, control: bool = False
) -> Encoding:
    """As `encode`, with where each token stands in the text. Needs a fast tokenizer.

    Args:
        tokenizer: of the model.
        text: the text.
        control: as for `encode`.

    Returns:
        Ids, and a half-open range of characters for each.

    Raises:
        CircuitsError: for a tokenizer that is not a fast one.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"the tokenizer {type(tokenizer).__name__} is a slow one, which does not tell where a "
            "token stands in the text; load the model's fast tokenizer (tokenizer.json)"
        )
    arguments = _arguments(tokenizer, text, control)
    encoding = tokenizer(text, return_offsets_mapping=True, **arguments)
    return Encoding(
        tuple(encoding["input_ids"]),
        tuple((start, end) for start, end in encoding["offset_mapping"]),
    )


def _arguments(tokenizer: PreTrainedTokenizerBase, text: str, control: bool) -> dict[str, bool]:
    # A slow tokenizer told to split control tokens splits every added word; so only where it must.
    split = not control and (tokenizer.is_fast or control_token(tokenizer, text) is not None)
    return {"add_special_tokens": False, "verbose": False, "split_special_tokens": split}


def control_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """What finds the tokenizer's control tokens in a text; None where it has none.

    Args:
        tokenizer: of the model.

    Returns:
        The pattern, or None.
    """
    added_tokens = tokenizer.added_tokens_decoder.values()
    names = {token.content for token in added_tokens if token.special and token.content}
    if not names:
        return None
    return re.compile("|".join(map(re.escape, sorted(names, key=lambda name: (-len(name), name)))))


def control_token(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[str, int] | None:
    """The first control token that is written in a text, and the character where it begins.

    Args:
        tokenizer: of the model.
        text: the text.

    Returns:
        Token and character, or None.
    """
    pattern = control_pattern(tokenizer)
    match = pattern.search(text) if pattern else None
    return (match[0], match.start()) if match else None


def control_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of all control tokens.

    Args:
        tokenizer: of the model.

    Returns:
        The ids.
    """
    added_tokens = tokenizer.added_tokens_decoder.items()
    return {token for token, content in added_tokens if content.special} | set(
        tokenizer.all_special_ids
    )


def added_begin(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens that the tokenizer puts before a text by itself; none, one or several.

    Found by tokenising: `add_bos_token` and `bos_token` need not agree with what a tokenizer does.

    Args:
        tokenizer: of the model.

    Returns:
        The ids.
    """
    with_added = list(tokenizer(_WORD, verbose=False)["input_ids"])
    plain = list(tokenizer(_WORD, add_special_tokens=False, verbose=False)["input_ids"])
    for start in range(len(with_added) - len(plain) + 1):
        if plain and with_added[start : start + len(plain)] == plain:
            return tuple(with_added[:start])
    return tuple(with_added[:1]) if with_added[:1] == [tokenizer.bos_token_id] else ()


def beginning(tokenizer: PreTrainedTokenizerBase, *, or_end: bool = False) -> tuple[int, ...]:
    """What the tokenizer puts before a text, else its beginning-of-text token.

    Args:
        tokenizer: of the model.
        or_end: where it has neither, take its end-of-text token, as TransformerLens does (Qwen).

    Returns:
        The ids.

    Raises:
        InputError: where there is no such token.
    """
    if added_ids := added_begin(tokenizer):
        return added_ids
    begin_id = tokenizer.bos_token_id
    if begin_id is None and or_end:
        begin_id = tokenizer.eos_token_id
    if begin_id is None:
        raise InputError("add_bos: the tokenizer has no beginning-of-text token")
    return (int(begin_id),)


def continuation(tokenizer: PreTrainedTokenizerBase, text: str, addition: str) -> tuple[int, ...]:
    """The tokens that `addition` contributes when it follows `text`, tokenised as one text.

    Args:
        tokenizer: of the model.
        text: what comes before.
        addition: what follows, with its space if it has one.

    Returns:
        The ids.

    Raises:
        CircuitsError: for an addition that merges with the end of the text: the prompt's own tokens
            would change.
    """
    return behind(encode(tokenizer, text), encode(tokenizer, text + addition), text, addition)


def behind(
    before: tuple[int, ...], both: tuple[int, ...], text: str, addition: str
) -> tuple[int, ...]:
    """What `both`, the tokens of `text + addition`, has behind `before`, those of `text`.

    Args:
        before: tokens of `text`.
        both: tokens of `text + addition`.
        text: for the message.
        addition: for the message.

    Returns:
        The ids.

    Raises:
        CircuitsError: where the addition merges with the end of the text.
    """
    if both[: len(before)] != before:
        raise InputError(
            f"{addition[:40]!r} merges with the end of {text[-20:]!r} into other tokens; begin it "
            "with a space, or end the text elsewhere"
        )
    return both[len(before) :]


def following(
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    addition: str,
    *,
    control: bool = False,
) -> tuple[int, ...]:
    """The tokens that `addition` contributes when it follows tokens that are given as ids.

    The tokens are turned to text again, all of them or as few of the last as are read back as they
    were. Where none are, the addition is taken to stand behind a word.

    Args:
        tokenizer: of the model.
        ids: what comes before.
        addition: what follows, with its space if it has one.
        control: read the control tokens that are written in the addition as such.

    Returns:
        The ids.
    """
    if not control and control_token(tokenizer, addition):
        return continuation(tokenizer, _WORD, addition)
    ids = tuple(ids)
    for tail in (ids, *(ids[-length:] for length in range(1, min(_TAIL, len(ids) - 1) + 1))):
        text = str(tokenizer.decode(list(tail), clean_up_tokenization_spaces=False))
        if encode(tokenizer, text, control=True) == tail:
            joined_ids = encode(tokenizer, text + addition, control=True)
            return behind(tail, joined_ids, text, addition)
    word_ids, joined_ids = (
        encode(tokenizer, string, control=control) for string in (_WORD, _WORD + addition)
    )
    return behind(word_ids, joined_ids, _WORD, addition)


def token_named(tokenizer: PreTrainedTokenizerBase, name: str) -> int | None:
    """The id of the control or added token of that very name, if there is one.

    Args:
        tokenizer: of the model.
        name: as it is written.

    Returns:
        The id, or None.
    """
    token_id = tokenizer.get_added_vocab().get(name)
    return None if token_id is None else int(token_id)


def token_spans(offsets: Sequence[Span], ranges: Sequence[Span]) -> tuple[Span, ...]:
    """For each range of characters, in order and apart, the tokens that overlap it.

    A token that overlaps two ranges goes to the first. A range that no token is left for comes back
    as an empty span.

    Args:
        offsets: a half-open range of characters for each token.
        ranges: half-open ranges of characters.

    Returns:
        A half-open range of tokens for each.
    """
    spans = []
    token = 0
    for start, end in ranges:
        while token < len(offsets) and offsets[token][1] <= start:
            token += 1
        first_token = token
        while token < len(offsets) and offsets[token][0] < end:
            token += 1
        spans.append((first_token, token))
    return tuple(spans)
