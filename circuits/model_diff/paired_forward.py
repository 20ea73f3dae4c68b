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
from circuits.model_diff.hidden import relative_change
from circuits.model_diff.trace import LayerTrace, Neurons, trace
from circuits.models import HookedModel
from circuits.runtime.limits import PATTERN_BYTES_CPU, PATTERN_BYTES_DEVICE
from tasks.pairs import PairBatch

PER_HEAD = ("kl", "entropy", "entropy_base")
PER_LAYER = ("cosine", "activation", "activation_base", "stream_change", "update_change")


_IMPOSSIBLE = 1e20


@dataclass(frozen=True)
class Reading:
    """What one batch says. values: by document and layer (and head), by the names above.

    mass, mass_base: attention by role, in the order of `keys.names`.
    neurons: of the model and of the other, a layer each; None where a layer has none.
    """

    keys: HeadTypeKeys
    values: dict[str, Float[Tensor, "batch layer *head"]]
    mass: Float[Tensor, "batch layer head named"]
    mass_base: Float[Tensor, "batch layer head named"]
    neurons: tuple[list[Neurons], list[Neurons]] | None


def read(model: HookedModel, base: HookedModel, batch: PairBatch, keys: HeadTypeKeys) -> Reading:
    """Run both models on the batch's clean prompts and compare them layer by layer.

    Raises CircuitsError where one model attends to what the other cannot see.
    """
    runs = [trace(each, batch.clean, batch.mask) for each in (model, base)]
    neurons = tuple([each.neurons for each in run if each.neurons is not None] for run in runs)
    layers = len(runs[0])
    found: dict[str, list[Tensor]] = {name: [] for name in (*PER_HEAD, *PER_LAYER)}
    masses: tuple[list[Tensor], list[Tensor]] = ([], [])
    for layer in range(layers):
        one, other = runs[0][layer], runs[1][layer]
        heads, mass = _heads(one.attention, other.attention, batch.mask, keys)
        if float(heads["kl"].max()) > _IMPOSSIBLE:
            raise CircuitsError(
                f"layer {layer}: {model.name} attends to tokens that {base.name} masks; their "
                "attention windows differ, and no divergence is defined"
            )
        for name, values in (*heads.items(), *_states(one, other, batch.mask).items()):
            found[name].append(values)
        for kept, values in zip(masses, mass, strict=True):
            kept.append(values)
    return Reading(
        keys,
        {name: torch.stack(values, dim=1) for name, values in found.items()},
        torch.stack(masses[0], dim=1),
        torch.stack(masses[1], dim=1),
        (neurons[0], neurons[1]) if len(neurons[0]) == len(neurons[1]) == layers else None,
    )


def _heads(
    one: Attention | Pattern,
    other: Attention | Pattern,
    mask: Bool[Tensor, "batch pos"],
    keys: HeadTypeKeys,
) -> tuple[dict[str, Float[Tensor, "batch head"]], tuple[Tensor, Tensor]]:
    """Divergence, entropies and roles of one layer, from one look at each distribution."""
    batch, length = mask.shape
    found: dict[str, list[Tensor]] = {name: [] for name in PER_HEAD}
    totals: list[Tensor] = []
    budget = PATTERN_BYTES_CPU if mask.device.type == "cpu" else PATTERN_BYTES_DEVICE
    for rows in chunks(length, 4 * batch * one.heads * length, budget):
        log_p, log_q = one.log_probabilities(rows), other.log_probabilities(rows)
        p, q = log_p.exp(), log_q.exp()
        found["kl"].append(divergence(p, log_p, log_q))
        found["entropy"].append(entropy(p, log_p))
        found["entropy_base"].append(entropy(q, log_q))
        masses = torch.stack([keys.mass(p, rows), keys.mass(q, rows)])
        totals = [masses.double() if not totals else totals[0] + masses]
    means = {name: over_positions(torch.cat(parts, dim=-1), mask) for name, parts in found.items()}
    return means, (totals[0][0], totals[0][1])


def _states(
    one: LayerTrace, other: LayerTrace, mask: Bool[Tensor, "batch pos"]
) -> dict[str, Float[Tensor, " batch"]]:
    """How the hidden states of one layer differ."""
    x, y = one.after.float(), other.after.float()
    values = {
        "cosine": torch.cosine_similarity(x, y, dim=-1),
        "activation": x.abs().mean(dim=-1),
        "activation_base": y.abs().mean(dim=-1),
        "stream_change": relative_change(x, y),
        "update_change": relative_change(x - one.before.float(), y - other.before.float()),
    }
    return {name: over_positions(value, mask) for name, value in values.items()}
