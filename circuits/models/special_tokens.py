"""Special tokens, which configurations give as one id, as several, or not at all."""

from __future__ import annotations

from collections.abc import Sequence


def token_ids(*configured: int | Sequence[int] | None) -> set[int]:
    """All ids that a model is configured with: `eos_token_id` is a list for Llama 3 Instruct and
    Gemma 3.
    """
    several = [[ids] if ids is None or isinstance(ids, int) else ids for ids in configured]
    return {token for tokens in several for token in tokens if token is not None}
