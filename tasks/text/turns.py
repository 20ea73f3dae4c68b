"""Turns of a dialogue: lines that begin with who speaks, as in "Amanda: See you!"."""

from __future__ import annotations

import re

# A name, a colon, and no number or address behind it ("At 10:30", "http://").
_OPENING = re.compile(r"[^\S\n]*[^\W\d_][^:\n]{0,39}:(?![\d/])")
_LINE = re.compile(r"[^\n]*\S[^\n]*\n?")
_LEAST = 2  # lines of a dialogue that begin with a speaker
_SHARE = 2 / 3  # of all its lines: others go on with the turn above


def turn_ranges(text: str) -> tuple[tuple[int, int], ...] | None:
    """Half-open character ranges of a dialogue's turns, which tile the text; None of other text.

    A dialogue's first line begins with a speaker, and so do two thirds of its lines, two at least.
    """
    lines = [match.start() for match in _LINE.finditer(text)]
    starts = [start for start in lines if _OPENING.match(text, start)]
    too_few = len(starts) < max(_LEAST, _SHARE * len(lines))
    if too_few or starts[0] != lines[0]:
        return None
    return tuple(zip([0, *starts[1:]], [*starts[1:], len(text)], strict=True))
