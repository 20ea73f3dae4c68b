"""Rotary embeddings as a GGUF file describes them, in transformers' words.

Scalings: none, linear, yarn, LongRoPE (Phi-3: factors as tensors), and Llama 3's, of which a file
holds the resulting divisors alone (`rope_freqs.weight`): they are recomputed from its constants.
"""

from __future__ import annotations

import math

import numpy as np

from circuits.errors import CircuitsError
from circuits.models.gguf.container import GGUF

_KNOWN = frozenset(
    {
        "dimension_count",
        "freq_base",
        "freq_base_swa",
        "scale_linear",
        "scaling.type",
        "scaling.factor",
        "scaling.attn_factor",
        "scaling.original_context_length",
        "scaling.finetuned",
        "scaling.yarn_beta_fast",
        "scaling.yarn_beta_slow",
    }
)
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""The constants of Llama 3.1 to 3.3; only the factor is another for the small ones."""


def rope_parameters(file: GGUF, head_dim: int) -> dict[str, object]:
    """transformers' `rope_parameters`; a CircuitsError names what is not read.

    head_dim: the width of a head; where fewer dimensions are turned, their share is told.
    """
    _refuse_unknown(file)
    turned = file.whole("rope.dimension_count", head_dim)
    base = float(file.number("rope.freq_base", 10000.0))
    plain: dict[str, object] = {"rope_type": "default", "rope_theta": base}
    if turned != head_dim:
        if file.architecture not in ("phi3", "gptneox"):
            raise CircuitsError(
                f"{file.path}: {turned} of a head's {head_dim} dimensions are turned, which "
                f"{file.architecture} does not do"
            )
        plain["partial_rotary_factor"] = turned / head_dim
    elif file.architecture == "gptneox":
        plain["partial_rotary_factor"] = 1.0
    scaled = {**plain, **_scaling(file, base, turned)}
    if file.architecture != "gemma3":
        return scaled
    local = float(file.number("rope.freq_base_swa", 10000.0))
    return {
        "full_attention": scaled,
        "sliding_attention": {"rope_type": "default", "rope_theta": local},
    }


def _refuse_unknown(file: GGUF) -> None:
    prefix = f"{file.architecture}.rope."
    for key, value in file.metadata.items():
        if key.startswith(prefix) and key.removeprefix(prefix) not in _KNOWN and value:
            raise CircuitsError(
                f"{file.path}: {key} = {value!r} is not known here, and may change what the model "
                "computes"
            )


def _scaling(file: GGUF, base: float, turned: int) -> dict[str, object]:
    if "rope_freqs.weight" in file.tensors:
        return _llama3(file, base, turned)
    if "rope_factors_long.weight" in file.tensors:
        return _longrope(file)
    linear = file.number("rope.scale_linear", None)
    kind = file.get("rope.scaling.type", "linear" if linear else "none")
    factor = file.number("rope.scaling.factor", linear)
    if kind == "none" or (kind == "linear" and (factor is None or factor in (0.0, 1.0))):
        return {}
    if kind == "linear" and factor is not None:
        return {"rope_type": "linear", "factor": float(factor)}
    original = file.get("rope.scaling.original_context_length")
    if kind == "yarn" and factor and original:
        scaling: dict[str, object] = {"rope_type": "yarn", "factor": float(factor)}
        scaling["original_max_position_embeddings"] = original
        for name in ("beta_fast", "beta_slow"):
            if (value := file.number(f"rope.scaling.yarn_{name}", None)) is not None:
                scaling[name] = float(value)
        if (attention := file.number("rope.scaling.attn_factor", 1.0)) != 1.0:
            scaling["attention_factor"] = float(attention) * (0.1 * math.log(factor) + 1.0)
        return scaling
    raise CircuitsError(
        f"{file.path}: rotary embeddings scaled by {kind!r} (factor {factor}) are not read"
    )


def _longrope(file: GGUF) -> dict[str, object]:
    n_ctx = file.get("context_length")
    original = file.get("rope.scaling.original_context_length", n_ctx)
    scaling = {
        "rope_type": "longrope",
        "original_max_position_embeddings": original,
        "long_factor": file.tensor("rope_factors_long.weight").tolist(),
        "short_factor": file.tensor("rope_factors_short.weight").tolist(),
    }
    if (attention := file.number("rope.scaling.attn_factor", None)) is not None:
        scaling["attention_factor"] = float(attention)
    return scaling


def _llama3(file: GGUF, base: float, turned: int) -> dict[str, object]:
    """Llama 3's scaling: frequencies divided by `factor` where waves are long, smoothed between."""
    stored = file.tensor("rope_freqs.weight").astype(np.float64)
    factor = round(float(stored.max()), 4)
    low, high, original = _LLAMA3.values()
    turns = original * base ** (-np.arange(0, turned, 2) / turned) / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if stored.shape != expected.shape or not np.allclose(stored, expected, rtol=1e-4):
        raise CircuitsError(
            f"{file.path}: rope_freqs.weight holds other factors than Llama 3's scaling; they are "
            "not read"
        )
    return {"rope_type": "llama3", "factor": factor, **_LLAMA3}
