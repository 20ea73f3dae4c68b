"""Negation: the statement becomes its contrary, by one word.

Both prompts have to have equally many tokens. A prompt with "not" behind its verb is the clean one,
and the corrupted one has a neutral word there ("also"). Of a prompt without, the clean one gets the
neutral word behind its first auxiliary verb, and the corrupted one "not" in that place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.errors import InputError

NEUTRAL = ("also", "still", "now", "often")
_VERBS = (
    *("is", "are", "was", "were", "has", "have", "had", "does", "do", "did"),
    *("can", "could", "will", "would", "should", "may", "might", "must"),
)
_VERB = re.compile(rf"\b({'|'.join(_VERBS)})\b(?! not\b)")
_NEGATED = re.compile(rf"\b({'|'.join(_VERBS)}) not\b")


def negations(prompt: str, source: str) -> Iterator[tuple[str, str]]:
    """Pairs of a clean and a corrupted text, of which the first with equally many tokens serves.

    Args:
        prompt: the text.
        source: of the row, for the message.

    Yields:
        Clean and corrupted text, by neutral word.

    Raises:
        InputError: where no auxiliary verb stands in the prompt.
    """
    if _NEGATED.search(prompt):
        for word in NEUTRAL:
            yield prompt, _NEGATED.sub(rf"\1 {word}", prompt, count=1)
        return
    verb = _VERB.search(prompt)
    if verb is None:
        raise InputError(
            f"{source}: no auxiliary verb ({', '.join(_VERBS[:4])}, ...) stands in the prompt, "
            "behind which a negation could"
        )
    head, tail = prompt[: verb.end()], prompt[verb.end() :]
    for word in NEUTRAL:
        yield f"{head} {word}{tail}", f"{head} not{tail}"
