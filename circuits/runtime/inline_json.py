"""JSON that can stand inside a page's script element."""

from __future__ import annotations

import json


def inline_json(value: object) -> str:
    """A value as JSON in which no text can end the script element that it stands in.

    Raises:
        ValueError: for a number that is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
