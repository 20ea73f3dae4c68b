"""The language model inside a model: of one that also sees or hears, the text alone is looked at.

Its configuration is nested in the whole one's, and its layers stand beside those of a vision tower,
which may be as many and have the same names.
"""

from __future__ import annotations

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from circuits.models.special_tokens import token_ids


def auto_class(config: PreTrainedConfig) -> type[_BaseAutoModelClass]:
    """What makes a language model of this configuration; one that sees takes text alone too."""
    if config.is_encoder_decoder:
        return AutoModelForSeq2SeqLM
    kind = type(config)
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING and kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    return AutoModelForCausalLM


def is_nested(config: PreTrainedConfig) -> bool:
    """Whether the language model is one part of the model."""
    return config.get_text_config() is not config


def tower(model: PreTrainedModel) -> str:
    """The path of the language model's module in a model of several parts; "" for any other."""
    if not is_nested(model.config):
        return ""
    decoder = model.get_decoder()
    return next((name for name, module in model.named_modules() if module is decoder), "")


def special_tokens(config: PreTrainedConfig) -> set[int]:
    """Ids that begin, end and fill texts, where the whole configuration or the text's says so."""
    return token_ids(
        *(
            getattr(part_config, name, None)
            for part_config in (config, config.get_text_config())
            for name in ("bos_token_id", "eos_token_id", "pad_token_id")
        )
    )
