"""A diff of two models in plain words, with figures, intervals and the number of documents."""

from __future__ import annotations

import math
from collections.abc import Sequence

from circuits.format import bracketed, count, figure, percent
from circuits.importance import CriticalLayers
from circuits.model_diff import ModelDiff
from circuits.model_diff.head_types import HeadType
from circuits.model_diff.neurons import NeuronChanges
from circuits.statistics.estimate import Estimate

_NAMED = 3  # heads named of each type


def summary(diff: ModelDiff) -> str:
    """Where attention, hidden states and neurons moved, and what heads now attend to."""
    names = f"{diff.model} and {diff.base}, {diff.n_documents} documents"
    if diff.identical:
        return f"{names}: no change in attention, hidden states or neurons."
    block = int(diff.update_change.value.argmax())
    sentences = [
        f"{names}. Intervals are 95 %, over documents. {_attention(diff)}",
        "The hidden states after the last block have a cosine of "
        f"{_figure(diff.cosine[diff.n_layers - 1])}; block {block}'s own update changed most, by "
        f"{_figure(diff.update_change[block])} of its length.",
        "" if diff.neurons is None else _neurons(diff.neurons),
        _head_types(diff.head_types),
        _layers(diff.critical_layers),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _attention(diff: ModelDiff) -> str:
    if diff.same_attention:
        return (
            "No attention pattern changed. `circuits compare` on edge scores finds changes of "
            "values and outputs."
        )
    head, kl = diff.heads_by_kl[0]
    return (
        f"Attention moved most at {head} (KL {_figure(kl)} nats). It became sharper (its entropy "
        f"fell) in {_figure(diff.sharpened_fraction)} of the heads; the mean change of entropy "
        "is "
        f"{_figure(diff.mean_entropy_change)} nats."
    )


def _figure(estimate: Estimate) -> str:
    return f"{figure(estimate.value)} {bracketed(estimate.low, estimate.high)}"


def _neurons(neurons: NeuronChanges) -> str:
    return (
        f"{count(neurons.n_substantial)} of {count(neurons.n_neurons)} neurons "
        f"({_share(neurons.substantial_fraction)}) changed substantially (by half their own spread "
        f"or more, at a false discovery rate of 5 %), and {count(neurons.n_flipped)} "
        f"({_share(neurons.flipped_fraction)}) changed their sign."
    )


def _share(fraction: Estimate) -> str:
    low, high = percent(fraction.low, 2), percent(fraction.high, 2)
    return f"{percent(fraction.value, 2)} [{low}, {high}]"


def _head_types(types: Sequence[HeadType]) -> str:
    if not types:
        return ""
    turned = [
        f"{', '.join(heads[:_NAMED])}{' and others' if len(heads) > _NAMED else ''} {verb} "
        f"the type {head_type.name}"
        for head_type in types
        for verb, heads in (("gained", head_type.gained), ("lost", head_type.lost))
        if heads
    ]
    return f"Head types: {'; '.join(turned)}." if turned else "No head gained or lost a type."


def _layers(layers: CriticalLayers) -> str:
    layer_lists = [
        f"{', '.join(map(str, changes.critical))} by {changes.criterion}"
        for changes in layers.criteria
        if changes.critical
    ]
    agreement = [
        f"{' and '.join(pair.criteria)} {_figure(pair.tau)} (p = {figure(pair.p)})"
        for pair in layers.agreement
        if math.isfinite(pair.tau.value)
    ]
    text = f"Most changed layers: {'; '.join(layer_lists)}." if layer_lists else ""
    if agreement:
        text += f" Kendall's tau of their rankings of the layers: {'; '.join(agreement)}."
    return text
