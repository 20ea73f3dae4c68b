"""One batch of text through two models: everything that is read off it, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.model_diff.attention import (
    Attention,
    Pattern,
    chunks,
    divergence,
    entropy,
    over_positions,
)
from circuits.model_diff.head_types import HeadTypeKeys
from circuits.model_diff.trace import LayerTrace, Neurons, run_layers
from circuits.models import HookedModel
from circuits.runtime.limits import PATTERN_BYTES_CPU, PATTERN_BYTES_DEVICE
from tasks.pairs import PairBatch

PER_HEAD = ("kl", "entropy", "entropy_base")
PER_LAYER = ("cosine", "activation", "activation_base", "stream_change", "update_change")

_IMPOSSIBLE = 1e20


@dataclass(frozen=True)
class BatchDiff:
    """How two models differ on one batch.

    values: by document and layer (and head), by the names above.
    mass, mass_base: attention by head type, in the order of `keys.names`.
    neurons: of the model and of the base, a layer each; None where a layer has none.
    """

    keys: HeadTypeKeys
    values: dict[str, Float[Tensor, "batch layer *head"]]
    mass: Float[Tensor, "batch layer head named"]
    mass_base: Float[Tensor, "batch layer head named"]
    neurons: tuple[list[Neurons], list[Neurons]] | None


def diff_batch(
    model: HookedModel, base: HookedModel, batch: PairBatch, keys: HeadTypeKeys
) -> BatchDiff:
    """Run both models on the batch's clean prompts and compare them layer by layer.

    Raises CircuitsError where one model attends to what the other cannot see.
    """
    runs = [run_layers(m, batch.clean, batch.mask) for m in (model, base)]
    neurons = tuple(
        [layer_run.neurons for layer_run in run if layer_run.neurons is not None] for run in runs
    )
    n_layers = len(runs[0])
    values: dict[str, list[Tensor]] = {name: [] for name in (*PER_HEAD, *PER_LAYER)}
    masses: tuple[list[Tensor], list[Tensor]] = ([], [])
    for layer, (tuned, original) in enumerate(zip(*runs, strict=True)):
        heads, mass = _heads(tuned.attention, original.attention, batch.mask, keys)
        if float(heads["kl"].max()) > _IMPOSSIBLE:
            raise CircuitsError(
                f"layer {layer}: {model.name} attends to tokens that {base.name} masks; their "
                "attention windows differ, and no divergence is defined"
            )
        for name, measured in (*heads.items(), *_states(tuned, original, batch.mask).items()):
            values[name].append(measured)
        for model_masses, of_layer in zip(masses, mass, strict=True):
            model_masses.append(of_layer)
    return BatchDiff(
        keys,
        {name: torch.stack(by_layer, dim=1) for name, by_layer in values.items()},
        torch.stack(masses[0], dim=1),
        torch.stack(masses[1], dim=1),
        (neurons[0], neurons[1]) if len(neurons[0]) == len(neurons[1]) == n_layers else None,
    )


def _heads(
    model: Attention | Pattern,
    base: Attention | Pattern,
    mask: Bool[Tensor, "batch pos"],
    keys: HeadTypeKeys,
) -> tuple[dict[str, Float[Tensor, "batch head"]], tuple[Tensor, Tensor]]:
    """Divergence, entropies and masses of one layer, from one look at each distribution."""
    batch, length = mask.shape
    parts: dict[str, list[Tensor]] = {name: [] for name in PER_HEAD}
    totals: list[Tensor] = []
    budget = PATTERN_BYTES_CPU if mask.device.type == "cpu" else PATTERN_BYTES_DEVICE
    for rows in chunks(length, 4 * batch * model.heads * length, budget):
        log_p, log_q = model.log_probabilities(rows), base.log_probabilities(rows)
        p, q = log_p.exp(), log_q.exp()
        parts["kl"].append(divergence(p, log_p, log_q))
        parts["entropy"].append(entropy(p, log_p))
        parts["entropy_base"].append(entropy(q, log_q))
        masses = torch.stack([keys.mass(p, rows), keys.mass(q, rows)])
        totals = [masses.double() if not totals else totals[0] + masses]
    means = {name: over_positions(torch.cat(of, dim=-1), mask) for name, of in parts.items()}
    return means, (totals[0][0], totals[0][1])


def _states(
    model: LayerTrace, base: LayerTrace, mask: Bool[Tensor, "batch pos"]
) -> dict[str, Float[Tensor, " batch"]]:
    """How the hidden states of one layer differ."""
    x, y = model.after.float(), base.after.float()
    values = {
        "cosine": torch.cosine_similarity(x, y, dim=-1),
        "activation": x.abs().mean(dim=-1),
        "activation_base": y.abs().mean(dim=-1),
        "stream_change": relative_change(x, y),
        "update_change": relative_change(x - model.before.float(), y - base.before.float()),
    }
    return {name: over_positions(value, mask) for name, value in values.items()}


def relative_change(
    value: Float[Tensor, "batch pos d_model"], base: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos"]:
    """||value - base|| / ||base||; a vector shorter than 1e-6 counts as that long."""
    difference: Tensor = torch.linalg.vector_norm(value - base, dim=-1)
    size: Tensor = torch.linalg.vector_norm(base, dim=-1).clamp_min(1e-6)
    return difference / size
