"""Patching sweeps of made-up numbers, for figures and pages."""

from __future__ import annotations

import torch

from circuits.intervention.patching import Axis, Patching, PatchSpec

LAYERS = Axis("layer", (0, 1), ("layer 0", "layer 1"))
HEADS = Axis("head", (0, 1), ("h0", "h1"))
PLACES = Axis("position", (0, 1, 2), ("The", "<b>/x", "is…"))


def made(*axes: Axis, direction: str = "denoise", gap: float = 2.0) -> Patching:
    shape = [len(axis.values) for axis in axes]
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(5, *shape, generator=draw).double()
    ends = torch.rand(5, generator=draw).double()
    return Patching(
        site="z",
        direction=direction,
        axes=axes,
        values={"m": values},
        clean={"m": ends + gap},
        corrupted={"m": ends},
        spec=PatchSpec("z", layers=tuple(range(20))),
    )


def of_gaps(gaps: list[float]) -> Patching:
    ends = torch.tensor(gaps).double()
    return Patching(
        site="z",
        direction="denoise",
        axes=(LAYERS,),
        values={"m": torch.full((len(gaps), 2), 0.5).double()},
        clean={"m": ends},
        corrupted={"m": torch.zeros_like(ends)},
    )
