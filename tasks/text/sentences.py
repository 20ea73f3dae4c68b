"""Sentences of an English text, by the rules of `sentencex` (Wikimedia; offline); those of a
dialogue are its turns.
"""

from __future__ import annotations

import re

import sentencex

from tasks.text.turns import turn_ranges

# sentencex 1.0 fails on whitespace outside ASCII (a no-break space after an initial).
_WHITESPACE = re.compile(r"[^\S\n\r\t ]")


def sentence_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Half-open character ranges of the sentences, which tile the text: each begins where the one
    before ends. The whitespace after a sentence belongs to it. A blank text has no sentences. Turns
    of a dialogue (`tasks.text.turns`) are sentences whole.
    """
    turns = turn_ranges(text)
    if turns is not None:
        return turns
    ranges: list[tuple[int, int]] = []
    start = end = 0
    for piece in sentencex.segment("en", _WHITESPACE.sub(" ", text)):
        end += len(piece)
        if piece.strip():
            ranges.append((start, end))
            start = end
        elif ranges:  # a paragraph break
            ranges[-1] = (ranges[-1][0], end)
            start = end
    return tuple(ranges)


def core(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without its outer whitespace."""
    segment = text[start:end]
    return start + len(segment) - len(segment.lstrip()), start + len(segment.rstrip())
