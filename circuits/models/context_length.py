"""How far a model reads, by its configuration alone."""

from __future__ import annotations

from transformers import PreTrainedConfig


def context_window(config: PreTrainedConfig) -> int | None:
    """Most positions that the model can read, if its configuration says so.

    A model of several modalities says so of its text.

    Args:
        config: of the model.

    Returns:
        Positions; None where it does not say.
    """
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return None if limit is None else int(limit)


def longrope_window(config: PreTrainedConfig) -> int | None:
    """Tokens of the longest text that LongRoPE (Phi-3's "128k") turns by its short factors.

    A longer text is turned by the long ones at all its positions, the first too.

    Args:
        config: of the model.

    Returns:
        Tokens; None where the turn of a position depends on nothing but its place.
    """
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]  # all, or by layer
    limits = [
        int(kind["original_max_position_embeddings"])
        for kind in kinds
        if kind.get("rope_type") == "longrope"
    ]
    return min(limits, default=None)
