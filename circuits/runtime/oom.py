"""What a device says when its memory is full."""

from __future__ import annotations

import torch


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a device had no memory left; only CUDA's error has a class of its own.

    Args:
        error: what was raised.

    Returns:
        True where the device's memory was full.
    """
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        "DefaultCPUAllocator" in text or "MPS backend out of memory" in text
    )
