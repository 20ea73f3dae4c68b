"""Special tokens, which configurations give as one id, as several, or not at all."""

from __future__ import annotations

from collections.abc import Sequence


def token_ids(*given: int | Sequence[int] | None) -> set[int]:
    """All ids that are given: `eos_token_id` is a list for Llama 3 Instruct and Gemma 3."""
    several = [[ids] if ids is None or isinstance(ids, int) else ids for ids in given]
    return {token for tokens in several for token in tokens if token is not None}
