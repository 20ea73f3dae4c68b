"""Of one card: whether it finds what the processor finds, and what fits into how little memory.

Lines of `gpu.py`, which runs them.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from attribution import STEPS, allocated, engine, pairs, random_model, seconds

from circuits.attribution import cost_of
from circuits.models import HookedModel
from circuits.models.checkpoints import as_dtype
from circuits.models.quantised import quantise
from circuits.models.weight_loading import WeightLoading
from circuits.options.choices import Quantisation
from circuits.planning import Job, Shape, plan
from tasks.pairs import PairBatch

GIGABYTE = 10**9
# Of a Llama of 8B at 1 x 1,024: how its weights are kept, whether layers run again, gigabytes.
LIMITS: tuple[tuple[Quantisation | None, bool, int | None], ...] = (
    (None, False, 40),
    (None, True, None),
    ("int8", True, 20),
    ("nf4", True, 12),
)


def scored(model: HookedModel, batch: PairBatch, *, recompute: bool = False) -> torch.Tensor:
    """Each example's scores where the model is, brought to the processor."""
    return engine(model, batch, recompute=recompute).scores.cpu()


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far scores are apart, of the largest of the other."""
    return float((one - other).abs().max() / other.abs().max())


def exact_line(options: argparse.Namespace) -> dict[str, Any]:
    """Scores of GPT-2's shape on the card beside the processor's: alone, twice, and spread.

    `spread` is a model whose layers accelerate puts onto the card as far as half of its
    weights, and the rest into the processor's memory (`device_map="auto"`).
    """
    model_options = argparse.Namespace(
        model="gpt2", layers=options.layers, device="cpu", dtype="float32"
    )
    model = random_model(model_options)
    batch = pairs(2, options.length, 0)
    reference = scored(model, batch)
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.hf.parameters())
    with tempfile.TemporaryDirectory() as folder:
        model.hf.save_pretrained(folder)
        device_model = HookedModel.from_pretrained(folder, device=options.device)
        scores = scored(device_model, batch.to(device_model.device))
        repeated_scores = scored(device_model, batch.to(device_model.device))
        line: dict[str, Any] = {
            "what": "scores on the card beside the processor's, apart of the largest",
            "model": model.name,
            "shape": f"2 x {options.length}",
            "alone": apart(scores, reference),
            "recomputed": apart(
                scored(device_model, batch.to(device_model.device), recompute=True), reference
            ),
            "same bytes twice": bool(torch.equal(scores, repeated_scores)),
        }
        if options.device != "cpu":
            limits = {"0": f"{size // 2 // 10**6}MB", "cpu": "16GB"}
            weights = WeightLoading(device_map="auto", max_memory=limits)
            spread = HookedModel.from_pretrained(folder, weights=weights)
            devices = sorted(
                {str(device) for device in getattr(spread.hf, "hf_device_map", {}).values()}
            )
            line["spread over"] = devices
            line["spread"] = apart(scored(spread, batch.to(spread.device)), reference)
    return line


def size_line(
    options: argparse.Namespace,
    kind: Quantisation | None,
    limit: int | None,
    *,
    recompute: bool,
) -> dict[str, Any]:
    """The most memory that EAP-IG takes of one long prompt, the weights kept in some way."""
    model_options = argparse.Namespace(
        model=options.big, layers=options.layers, device=options.device, dtype=options.dtype
    )
    hf = random_model(model_options).hf
    if kind is not None:
        quantise(hf, kind)
    model = HookedModel(hf, None, f"{options.big} shape, random weights")
    batch = pairs(1, options.long, 0, model.device)
    dtype = as_dtype(options.dtype)
    shape = Shape(1, options.long, dtype=dtype, device=model.device.type)
    estimate = plan(model.hf.config, Job(shape, cost_of("eap-ig"), STEPS, 1, recompute, kind))
    scored(model, batch, recompute=recompute)  # warms up
    peak = allocated(model.device, lambda: scored(model, batch, recompute=recompute))
    line: dict[str, Any] = {
        "what": "memory of eap-ig",
        "model": model.name,
        "weights": kind or options.dtype,
        "recompute": recompute,
        "shape": f"1 x {options.long}",
        "seconds": round(seconds(lambda: scored(model, batch, recompute=recompute)), 2),
        "planned_bytes": estimate.total - estimate.overhead,
        "bytes": peak,
    }
    if peak is not None and limit is not None:
        line["limit"] = limit * GIGABYTE
        line["met"] = {"memory": peak <= limit * GIGABYTE}
    return line
