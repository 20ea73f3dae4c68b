"""What to call models and files that are given by path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath


def unique_suffixes(paths: Sequence[str | Path]) -> list[str]:
    """The shortest ends of paths (or hub ids) that tell different ones apart.

    What all end in is left out: a/base/scores and a/step-9/scores are base and step-9.
    """
    backwards = [PurePath(os.path.normpath(path)).parts[::-1] for path in paths]
    distinct = set(backwards)
    start = 0
    if len(distinct) > 1:
        shortest = min(map(len, distinct))
        while start + 1 < shortest and len({parts[start] for parts in distinct}) == 1:
            start += 1
    stop = start + 1
    while len({parts[start:stop] for parts in distinct}) < len(distinct):
        stop += 1
    return ["/".join(parts[start:stop][::-1]) for parts in backwards]
