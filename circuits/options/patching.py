"""What a sweep patches, as it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from circuits.options.choices import Alignment, Direction, SiteName, SweepAxis
from circuits.options.declared import Options


@dataclass(frozen=True)
class PatchSpec(Options):
    """Which activations `patch` takes from one run into another.

    Under grouped-query attention the heads of k and v are KV heads. The tokens of an answer that
    are fed to the model count as positions.

    Attributes:
        site: Where in a layer (resid is short for resid_pre, head for z).
        direction: The clean run's activation into the corrupted run (denoise), or the corrupted
            run's into the clean one (noise; the default for paths).
        sweep: Axes to sweep, as in layer,position; along the others everything is patched at once
            (default: layer and position for whole vectors, layer and head or neuron for the rest).
        layers: Layers to patch, as in 0-3,7 (default: all).
        positions: Positions to patch, as in 0-3,7 (default: all).
        heads: Heads to patch, as in 0-3,7 (default: all).
        neurons: Neurons to patch, as in 0-3,7 (default: all).
        align: Lay prompts of several lengths side by side from their start (positions 0, 1, ..) or
            from their end (.., -2, -1).
    """

    site: SiteName = "resid_pre"
    direction: Direction = "denoise"
    sweep: tuple[SweepAxis, ...] | None = None
    layers: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    neurons: tuple[int, ...] | None = None
    align: Alignment = "start"
