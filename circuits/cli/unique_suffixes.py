"""What to call models and files that are given by path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath


def unique_suffixes(places: Sequence[str | Path]) -> list[str]:
    """The shortest ends of paths (or hub ids) that tell different ones apart.

    What all end in is left out: a/base/scores and a/step-9/scores are base and step-9.
    """
    backwards = [PurePath(os.path.normpath(place)).parts[::-1] for place in places]
    distinct = set(backwards)
    start = 0
    if len(distinct) > 1:
        shortest = min(map(len, distinct))
        while start + 1 < shortest and len({one[start] for one in distinct}) == 1:
            start += 1
    stop = start + 1
    while len({one[start:stop] for one in distinct}) < len(distinct):
        stop += 1
    return ["/".join(one[start:stop][::-1]) for one in backwards]
