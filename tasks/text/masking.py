"""Three ways to corrupt a span of a prompt without changing its length, and where two differ.

- `filler`: every token becomes one fixed token. Far from natural text, so it takes away the content
  and also moves the prompt off the distribution.
- `swap`: the span becomes the beginning of another text. Natural words, wrong content.
- `shuffle`: the span's own tokens in another order. Same words, no sentence.

Pure functions on token ids; a span is a half-open range (start, end).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from tasks.errors import CircuitsError

Span = tuple[int, int]


def filler(tokens: Sequence[int], span: Span, token_id: int) -> tuple[int, ...]:
    """`tokens` with every token of the span replaced by `token_id`.

    Args:
        tokens: of a prompt.
        span: half-open range of them.
        token_id: what takes their place.

    Returns:
        As many tokens.
    """
    start, end = _checked(tokens, span)
    return _replaced(tokens, span, [token_id] * (end - start))


def swap(tokens: Sequence[int], span: Span, replacement: Sequence[int]) -> tuple[int, ...]:
    """`tokens` with the span replaced by the first tokens of `replacement`, equal in number.

    Args:
        tokens: of a prompt.
        span: half-open range of them.
        replacement: at least as long as the span; what is over is cut off.

    Returns:
        As many tokens.

    Raises:
        CircuitsError: for a replacement that is too short.
    """
    start, end = _checked(tokens, span)
    if len(replacement) < end - start:
        raise CircuitsError(
            f"the replacement has {len(replacement)} tokens and the span {start}-{end} has "
            f"{end - start}; give a replacement at least as long"
        )
    return _replaced(tokens, span, replacement[: end - start])


def shuffle(tokens: Sequence[int], span: Span, rng: random.Random) -> tuple[int, ...]:
    """`tokens` with the span's own tokens in another order, never the one they had.

    Args:
        tokens: of a prompt.
        span: half-open range of them.
        rng: draws the order.

    Returns:
        As many tokens.

    Raises:
        CircuitsError: for a span whose tokens are all the same.
    """
    start, end = _checked(tokens, span)
    span_tokens = list(tokens[start:end])
    if len(set(span_tokens)) < 2:
        raise CircuitsError(
            f"the span {start}-{end} has no other order, as its tokens are all the same; "
            "corrupt it with 'filler' or 'swap'"
        )
    shuffled = span_tokens.copy()
    # Two different tokens: each draw differs with probability >= 1/2.
    while shuffled == span_tokens:
        rng.shuffle(shuffled)
    return _replaced(tokens, span, shuffled)


def differing(clean: Sequence[int], corrupted: Sequence[int]) -> tuple[Span, ...]:
    """The spans at which two prompts differ, in order, each as long as can be.

    Args:
        clean: tokens of a prompt.
        corrupted: tokens of its twin.

    Returns:
        Half-open ranges; none of prompts of different lengths, which `PromptPair` refuses.
    """
    spans: list[Span] = []
    if len(clean) != len(corrupted):
        return ()
    for position, (a, b) in enumerate(zip(clean, corrupted, strict=True)):
        if a != b:
            joined = bool(spans) and spans[-1][1] == position
            start = spans.pop()[0] if joined else position
            spans.append((start, position + 1))
    return tuple(spans)


def _replaced(tokens: Sequence[int], span: Span, replacement: Sequence[int]) -> tuple[int, ...]:
    start, end = span
    return (*tokens[:start], *replacement, *tokens[end:])


def _checked(tokens: Sequence[int], span: Span) -> Span:
    start, end = span
    if not 0 <= start < end <= len(tokens):
        raise CircuitsError(f"the span {start}-{end} lies outside the {len(tokens)} tokens")
    return span
