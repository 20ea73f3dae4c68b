"""Internals in plain words, with figures, intervals and the number of documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from circuits.format import bracketed, figure

if TYPE_CHECKING:
    from circuits.model_diff.averages import Averages
    from circuits.model_diff.criteria import CriticalLayers
    from circuits.model_diff.diff import ModelDiff
    from circuits.model_diff.head_types import HeadType
    from circuits.model_diff.neurons import NeuronChanges

_NAMED = 3  # heads named of each role


def diff_models(one: ModelDiff, layers: CriticalLayers) -> str:
    """Where attention, hidden states and neurons moved, and what heads now attend to."""
    names = f"{one.name} and {one.base}, {len(one)} documents"
    if one.identical:
        return f"{names}: no change in attention, hidden states or neurons."
    change = one.averages(one.update_change)
    cosine = one.similarity()
    last = cosine.value.shape[0] - 1
    most = int(change.value.argmax())
    sentences = [
        f"{names}; 95 % intervals over documents. {_attention(one)}",
        f"The hidden states after the last block have a cosine of {average(cosine, last)}; "
        f"block {most}'s own update changed most, by {average(change, most)} of its length.",
        "" if one.neurons is None else _neurons(one.neurons),
        _roles(list(one.roles.values())),
        _layers(layers),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _attention(one: ModelDiff) -> str:
    if one.same_attention:
        return (
            "No attention pattern changed; changes of values and outputs are found by "
            "`circuits compare` on edge scores."
        )
    head, _ = one.heads_by_kl[0]
    layer, place = (int(part) for part in head[1:].split(".h"))
    kl = one.averages(one.kl)
    entropy = one.averages(one.entropy_change.mean(dim=(1, 2)))
    return (
        f"Attention moved most at {head} (KL {average(kl, layer, place)} nats). Entropy fell in "
        f"{average(one.falling_heads())} of the heads (mean change {average(entropy)} nats)."
    )


def average(averages: Averages, *place: int) -> str:
    """A value with its interval."""
    value, low, high = averages.at(*place)
    return f"{figure(value)} {bracketed(low, high)}"


def _neurons(found: NeuronChanges) -> str:
    shares = found.shares
    return (
        f"{average(shares['substantial'])} of the neurons changed substantially (by half their "
        f"own spread or more, at a false discovery rate of 5 %), and "
        f"{average(shares['flipped'])} flipped their sign."
    )


def _roles(roles: Sequence[HeadType]) -> str:
    if not roles:
        return ""
    turned = [
        f"{', '.join(heads[:_NAMED])}{' and others' if len(heads) > _NAMED else ''} {verb} "
        f"the {role.name} role"
        for role in roles
        for verb, heads in (("gained", role.gained), ("lost", role.lost))
        if heads
    ]
    if not turned:
        return "No head gained or lost a role."
    return f"Roles: {'; '.join(turned)}."


def _layers(layers: CriticalLayers) -> str:
    named = [
        f"{', '.join(map(str, one.critical(layers.critical)))} by {name}"
        for name, one in layers.values.items()
        if one.critical(layers.critical)
    ]
    told = [(pair, tau) for pair, tau in layers.tau.items() if math.isfinite(float(tau.value))]
    agreement = [
        f"{one} and {other} {average(tau)} (p = {figure(layers.p[one, other])})"
        for (one, other), tau in told
    ]
    text = f"Most changed layers: {'; '.join(named)}." if named else ""
    if agreement:
        text += f" Kendall's tau of their rankings of the layers: {'; '.join(agreement)}."
    return text
