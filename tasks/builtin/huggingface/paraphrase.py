"""Paraphrase slot: one wording of the prompt becomes another that means the same.

The answer stays right, so that this is a control: what it moves is the wording's, not the task's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tasks.errors import InputError


def paraphrases(prompt: str, wordings: Sequence[str], source: str) -> Iterator[str]:
    """The prompt with each other wording in the place of the one that stands in it.

    Args:
        prompt: the text.
        wordings: all that mean the same; the longest that stands in the prompt is its own.
        source: of the row, for the message.

    Yields:
        Texts, in the order of the wordings behind its own, the last followed by the first.

    Raises:
        InputError: where none stands in the prompt.
    """
    there = [one for one in wordings if _whole(one).search(prompt)]
    if not there:
        listed = ", ".join(map(repr, wordings))
        raise InputError(f"{source}: none of the wordings {listed} stands in the prompt")
    own = max(there, key=len)
    place = wordings.index(own)
    for other in (*wordings[place + 1 :], *wordings[:place]):
        yield _whole(own).sub(other.replace("\\", r"\\"), prompt, count=1)


def _whole(wording: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(wording)}(?!\w)")
