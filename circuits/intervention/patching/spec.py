"""What a sweep patches, as it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SiteName = Literal[
    "resid",
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "z",
    "head",
    "q",
    "k",
    "v",
    "pattern",
    "neuron",
]
"""A name from `SITES`; `resid` is short for `resid_pre`, and `head` for `z`."""

Direction = Literal["denoise", "noise"]
Alignment = Literal["start", "end"]
SweepAxis = Literal["layer", "position", "head", "neuron"]


@dataclass(frozen=True)
class PatchSpec:
    """Which activations `patch` takes from one run into another.

    site: where in a layer.
    direction: "denoise" puts the clean run's activation into the corrupted run, "noise" the
        corrupted run's into the clean one.
    sweep: the axes to sweep; along the others everything is patched at once. None takes layer and
        position for whole vectors, layer and head (or neuron) for the rest.
    layers, positions, heads, neurons: which of them to patch; None is all. Under grouped-query
        attention the heads of k and v are KV heads.
    align: prompts of several lengths are laid side by side from their "start" (positions 0, 1, ..)
        or from their "end" (.., -2, -1). The tokens of an answer that are fed to the model count.
    """

    site: SiteName = "resid_pre"
    direction: Direction = "denoise"
    sweep: tuple[SweepAxis, ...] | None = None
    layers: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    neurons: tuple[int, ...] | None = None
    align: Alignment = "start"
