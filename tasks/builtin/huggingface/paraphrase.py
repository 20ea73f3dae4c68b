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
    present_wordings = [text for text in wordings if _whole(text).search(prompt)]
    if not present_wordings:
        known_wordings = ", ".join(map(repr, wordings))
        raise InputError(f"{source}: none of the wordings {known_wordings} stands in the prompt")
    own_wording = max(present_wordings, key=len)
    index = wordings.index(own_wording)
    for wording in (*wordings[index + 1 :], *wordings[:index]):
        yield _whole(own_wording).sub(wording.replace("\\", r"\\"), prompt, count=1)


def _whole(wording: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(wording)}(?!\w)")
