"""Which model, and how it is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from circuits.errors import CircuitsError
from circuits.options.choices import Dtype, Quantisation
from circuits.options.declared import Options

_SIZE = r"\d+(\.\d+)?[KMG]i?B"  # as accelerate reads it


@dataclass(frozen=True, kw_only=True)
class LoadOptions(Options):
    """How models are loaded.

    Attributes:
        tokenizer: Where to take the tokenizer from: a hub id, a folder, a GGUF file or a short name
            (default: the model's own).
        device: Device, as in cpu, cuda, cuda:1 (default: the first accelerator).
        dtype: Number type of the weights.
        quantize: Keep the layers' weights in 8 bits (int8) or 4 bits (nf4), by bitsandbytes; the
            circuits are those of the rounded model, which with 4 bits may be another one.
        device_map: Spread the layers over all devices of this machine, by accelerate (default: one
            device).
        max_memory: For a device map: the most that each device may hold, as in 0=20GB,cpu=60GB.
    """

    tokenizer: str | None = None
    device: str | None = None
    dtype: Dtype = "float32"
    quantize: Quantisation | None = None
    device_map: Literal["auto"] | None = None
    max_memory: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device_map is not None and self.device is not None:
            raise CircuitsError(
                f"device {self.device} and a device map are given; leave one of them out"
            )
        if self.max_memory is not None:
            if self.device_map is None:
                raise CircuitsError("max_memory says how device_map auto is made; give that too")
            memory_limits(self.max_memory)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(LoadOptions):
    """A model, and how it is loaded.

    Attributes:
        model: Hub id (with @revision), local folder, GGUF file, PEFT adapter folder, or a short
            name: newsroom-gpt2 (part of this package), smollm2-135m or gemma3-270m (packages of
            their own).
    """

    model: str


def memory_limits(text: str) -> dict[str, str]:
    """What each device may hold, from text.

    Args:
        text: as in "0=20GB,cpu=60GB".

    Returns:
        Sizes by device.

    Raises:
        CircuitsError: for what is not written so.
    """
    limits = {}
    for part in text.split(","):
        name, _, size = (side.strip() for side in part.partition("="))
        if not re.fullmatch(r"\d+|cpu|mps", name) or not re.fullmatch(_SIZE, size):
            raise CircuitsError(f"max_memory {part!r}: write device=size, as in 0=20GB,cpu=60GB")
        limits[name] = size
    return limits
