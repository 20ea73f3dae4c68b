"""Entity swap: what a prompt is about becomes what another row is about."""

from __future__ import annotations

import re

from tasks.errors import InputError


def swapped(prompt: str, entity: str, other: str, source: str) -> str:
    """A prompt about another entity.

    Args:
        prompt: the text.
        entity: what it is about; replaced wherever it stands as a word of its own.
        other: what takes its place.
        source: of the row, for the message.

    Returns:
        The text with the other entity.

    Raises:
        InputError: where the entity does not stand in the prompt.
    """
    pattern = re.compile(rf"(?<!\w){re.escape(entity)}(?!\w)")
    new_prompt, times = pattern.subn(lambda _: other, prompt)
    if not times:
        raise InputError(f"{source}: {entity!r} does not stand in the prompt {prompt[:60]!r}")
    return new_prompt
