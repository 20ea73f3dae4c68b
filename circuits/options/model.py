"""Which model, and how it is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from circuits.options.choices import Dtype
from circuits.options.declared import Options


@dataclass(frozen=True, kw_only=True)
class LoadOptions(Options):
    """How models are loaded.

    Attributes:
        tokenizer: Where to take the tokenizer from, as for the model (default: the model's own).
        device: Device, as in cpu, cuda, cuda:1 (default: the first accelerator).
        dtype: Type of the weights.
    """

    tokenizer: str | None = None
    device: str | None = None
    dtype: Dtype = "float32"


@dataclass(frozen=True, kw_only=True)
class ModelOptions(LoadOptions):
    """A model, and how it is loaded.

    Attributes:
        model: Hub id (with @revision), local folder, GGUF file, PEFT adapter folder, or one of
            newsroom-gpt2, smollm2-135m, gemma3-270m.
    """

    model: str
