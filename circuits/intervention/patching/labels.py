"""What stands at a position of a set of prompts, in a few letters."""

from __future__ import annotations

from collections.abc import Sequence

from circuits.errors import CircuitsError
from circuits.models import HookedModel
from tasks.pairs import PairSet

_VARIES = "\u2026"


def position_labels(
    model: HookedModel, pairs: PairSet, positions: Sequence[int]
) -> tuple[str, ...]:
    """The token at each position (negative ones from the end).

    Where the first pair's prompts differ, `clean/corrupted`; an ellipsis follows where other pairs
    hold something else there.
    """
    return tuple(_label(model, pairs, position) for position in positions)


def _label(model: HookedModel, pairs: PairSet, position: int) -> str:
    token_pairs = []
    for pair in pairs:
        index = position + len(pair) if position < 0 else position
        if 0 <= index < len(pair):
            token_pairs.append(
                tuple(
                    (*prompt, *pair.teacher_forced)[index]
                    for prompt in (pair.clean, pair.corrupted)
                )
            )
    if not token_pairs:
        return _VARIES
    words = [_text(model, token) for token in dict.fromkeys(token_pairs[0])]
    return "/".join(words) + (_VARIES if len(set(token_pairs)) > 1 else "")


def _text(model: HookedModel, token: int) -> str:
    try:
        text = model.tokenizer.decode([token])
    except CircuitsError:  # a model without a tokenizer
        return f"#{token}"
    return str(text).strip() or repr(text)
