"""Modules that are activation functions: each number by itself, some with settings of their own."""

from __future__ import annotations

from torch import nn
from transformers.activations import ACT2CLS
from transformers.models.bloom.modeling_bloom import BloomGelu

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    BloomGelu,
    *(
        kind
        for each in ACT2CLS.values()
        for kind in (each if isinstance(each, tuple) else (each,))
        if isinstance(kind, type)
    ),
)
