"""Score every edge of a model on a set of prompt pairs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.batch_scores import BatchScores, PathScores, relative_l1
from circuits.attribution.clean_corrupted import CleanCorrupted
from circuits.attribution.eap import EAP
from circuits.attribution.eap_ig import EAPIG
from circuits.attribution.eap_ig_activations import EAPIGActivations
from circuits.attribution.exact import Exact
from circuits.attribution.information_flow import InformationFlow
from circuits.attribution.method import Method as Method
from circuits.attribution.random import Random
from circuits.batching import over_batches
from circuits.errors import CircuitsError
from circuits.graph import EdgeScores
from circuits.graph.blocks import COUNT, Blocks, block_of
from circuits.metrics import Metric, metric_for
from circuits.models import HookedModel
from circuits.planning import choose_batch_size
from circuits.unfinished import Unfinished
from tasks.pairs import PairBatch, PairSet

METHODS: dict[str, type[Any]] = {
    method.name: method
    for method in (EAPIG, EAPIGActivations, EAP, CleanCorrupted, Exact, InformationFlow, Random)
}


def method(name: str, **settings: Any) -> Method:
    """The method of that name; unknown names and settings are refused with the known ones."""
    if name not in METHODS:
        raise CircuitsError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    given = {key: value for key, value in settings.items() if value is not None}
    known = [field.name for field in fields(METHODS[name])]
    if unknown := sorted(set(given) - set(known)):
        takes = ", ".join(known) or "no settings"
        raise CircuitsError(f"{name} does not take {', '.join(unknown)}; it takes {takes}")
    chosen: Method = METHODS[name](**given)
    return chosen


def attribute(
    model: HookedModel,
    pairs: PairSet,
    method: str | Method = "eap-ig",
    *,
    metric: str | None = None,
    batch_size: int | None = None,
    per_example: bool = False,
    progress: bool = False,
    unfinished: Unfinished | None = None,
    **settings: Any,
) -> EdgeScores:
    """Score every edge: how much the metric falls, to first order, when the edge is corrupted.

    method: a name from `METHODS`, whose hyper-parameters follow as keywords (steps=5,
        quadrature="midpoint"), or a method object.
    metric: a name from `circuits.metrics`; None takes the pairs' own. Units of the scores.
    batch_size: None takes what the memory plan says (`planning.choose_batch_size`), a batch that
        does not fit after all is halved. `details["batch_size"]` holds the number.
    per_example: keep one matrix an example, which `compare` and intervals need.
    unfinished: keeps what is done so far in a file; the same call goes on from it.

    Methods on the path from corrupted to clean say in `details["error"]` how far to trust them.

    Nothing here is random: the same input on the same machine gives the same bytes.
    """
    chosen = named(method, settings)
    measure = metric_for(pairs, metric)
    found = gather(
        model,
        pairs,
        chosen,
        measure,
        lambda batch: chosen.scores(model, batch, measure, progress),
        model.layout.shape,
        batch_size=batch_size,
        per_example=per_example,
        progress=f"scoring edges ({chosen.name})" if progress else None,
        unfinished=unfinished,
    )
    return EdgeScores(
        found.mean, model.layout, chosen.name, found.details, found.per_example, found.blocks
    )


@dataclass(frozen=True)
class Gathered:
    """Scores of a whole set: their mean, examples' or blocks' scores, and what is said of them."""

    mean: Tensor
    per_example: Float[Tensor, "example ..."] | None
    blocks: Blocks | None
    details: dict[str, Any]


def gather(
    model: HookedModel,
    pairs: PairSet,
    chosen: Method,
    metric: Metric,
    work: Callable[[PairBatch], BatchScores],
    shape: tuple[int, ...],
    *,
    batch_size: int | None,
    per_example: bool,
    progress: str | None,
    unfinished: Unfinished | None,
) -> Gathered:
    """Score all pairs, batch by batch; `shape` is that of one example's scores."""
    model.require(pairs)
    chosen.require(model, pairs, metric)
    if batch_size is None:
        steps = getattr(chosen, "steps", None)
        batch_size = choose_batch_size(model, pairs, chosen.name, steps)
    total = torch.zeros(shape, dtype=torch.float64)
    kept = torch.zeros(len(pairs) if per_example else 0, *shape)
    where = block_of(len(pairs), min(COUNT, len(pairs)))
    sums = torch.zeros(0 if per_example else min(COUNT, len(pairs)), *shape)
    ends = torch.zeros(2, len(pairs))
    path = torch.full((2, len(pairs)), torch.nan)
    doubt, stands_for = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[-1])
    details = {
        "settings": {key: value for key, value in vars(chosen).items() if value is not None},
        "metric": metric.name,
        "batch_size": batch_size,
        "seed": None,
        "data": describe_pairs(pairs),
        "pairs": pairs.fingerprints,
        "model": describe_model(model),
        "versions": versions(),
    }
    if line := model.missing_begin(pairs):
        details["begin"] = line
    unfinished = unfinished or Unfinished()
    unfinished.resume(
        len(pairs),
        {
            **details,
            "method": chosen.name,
            "shape": shape,
            "per_example": per_example,
            "blocks": COUNT,
        },
        {
            "total": total,
            "kept": kept,
            "sums": sums,
            "ends": ends,
            "path": path,
            "doubt": doubt,
            "stands_for": stands_for,
        },
    )
    for batch, found in over_batches(
        model,
        pairs,
        work,
        batch_size=batch_size,
        done=unfinished.done,
        progress=progress,
    ):
        scores = found.scores.cpu()
        _require_finite(scores, batch)
        total += scores.sum(dim=0, dtype=torch.float64)
        place = batch.index.cpu()
        ends[:, place] = torch.stack([found.clean, found.corrupted]).detach().cpu()
        if isinstance(found, PathScores):
            path[:, place] = torch.stack([found.error, found.gradients]).detach().cpu()
            doubt += found.doubt.cpu().sum(dim=0, dtype=torch.float64)
            stands_for.copy_(found.stands_for)
        if per_example:
            kept[place] = scores
        else:
            sums.index_add_(0, where[place], scores)
        unfinished.keep(place)
    details |= {
        "metric_clean": float(ends[0].mean()),
        "metric_corrupted": float(ends[1].mean()),
        **({} if path.isnan().any() else {"error": describe_error(path, doubt, total, stands_for)}),
    }
    return Gathered(
        (total / len(pairs)).float(),
        kept if per_example else None,
        None if per_example else Blocks(sums, where.bincount()),
        details,
    )


def describe_pairs(pairs: PairSet) -> dict[str, Any]:
    """What a result must say of its data."""
    left_out = {"skipped": len(pairs.skipped)} if pairs.skipped else {}
    return {
        "task": pairs.task,
        "split": pairs.split,
        "n": len(pairs),
        "fingerprint": pairs.fingerprint,
        **left_out,
    }


def describe_error(
    path: Float[Tensor, "2 example"],
    doubt: Float[Tensor, "*unit column"],
    total: Float[Tensor, "*unit column"],
    stands_for: Float[Tensor, " column"],
) -> dict[str, float]:
    """What a result says of its quadrature, from sums of `PathScores` over all examples.

    path: rows are each example's error and gradients. estimate: of the relative L1 error of the
    mean scores. worst: the largest of a single example.
    """
    errors, gradients = path.double()
    return {
        "estimate": float(relative_l1(doubt[None], total[None], stands_for.double())),
        "worst": float(errors.max()),
        "gradients": float(gradients.mean()),
    }


def describe_model(model: HookedModel) -> dict[str, Any]:
    """What a result must say of its model."""
    return {
        "name": model.name,
        "architecture": type(model.hf).__name__,
        "dtype": model.dtype_name,
        "fingerprint": model.fingerprint,
        **({} if model.gguf is None else {"gguf": dict(model.gguf)}),
        **({} if model.asked_tokenizer is None else {"tokenizer": model.asked_tokenizer}),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that a figure can depend on: of the modules that are loaded, where
    they say theirs, as an installation may have changed since.
    """
    names = ("circuits", "torch", "transformers", "transformer-lens")
    loaded = {name: sys.modules.get(name.replace("-", "_")) for name in names}
    return {
        name: str(getattr(module, "__version__", None) or version(name))
        for name, module in loaded.items()
    }


def named(chosen: str | Method, settings: dict[str, Any]) -> Method:
    """A method from its name and hyper-parameters, or from itself."""
    if isinstance(chosen, str):
        return method(chosen, **settings)
    if settings:
        raise CircuitsError("hyper-parameters belong in the method object that was given")
    return chosen


def _require_finite(scores: torch.Tensor, batch: PairBatch) -> None:
    finite = torch.isfinite(scores).flatten(1).all(dim=1)
    if not finite.all():
        bad = batch.sources[int((~finite).nonzero()[0])]
        raise CircuitsError(f"{bad}: a score is not finite; try dtype float32")
