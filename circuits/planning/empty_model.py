"""A model without data, from its configuration: what its passes are counted on."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from circuits.errors import CircuitsError
from circuits.models.adapters import quiet_peft
from circuits.models.language import auto_class, tower

FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
"""What a model's own code may raise on tensors without data; RuntimeError is the usual."""
_RANK = 8  # of the LoRA that is planned, on all layers


def empty_model(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A causal model on PyTorch's meta device; a CircuitsError where there is none."""
    if config.is_encoder_decoder:
        raise CircuitsError(
            f"{type(config).__name__}: no language model, but an encoder-decoder, whose passes are "
            "not planned"
        )
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto_class(config).from_config(config, dtype=dtype)
    except FAILURES as error:
        raise CircuitsError(f"{type(config).__name__}: no language model ({error})") from error
    torch.nn.Module.train(model, False)
    # Else the model warns that its zeros are padding.
    model.config.get_text_config().pad_token_id = None
    return model


def adapt(model: PreTrainedModel) -> None:
    """Put a LoRA on every linear map of the layers, of a model that sees those of its text."""
    from peft import LoraConfig, get_peft_model

    gpt2 = any(isinstance(module, Conv1D) for module in model.modules())
    inside = tower(model)
    linear: str | list[str] = "all-linear"
    if inside:
        named = model.named_modules()
        linear = [n for n, m in named if isinstance(m, nn.Linear) and n.startswith(f"{inside}.")]
    with quiet_peft(), torch.device("meta"):
        get_peft_model(
            model,
            LoraConfig(task_type="CAUSAL_LM", r=_RANK, target_modules=linear, fan_in_fan_out=gpt2),
        )
