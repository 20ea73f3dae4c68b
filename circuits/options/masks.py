"""How a mask is learned: every setting that its outcome depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from circuits.options.choices import Positive, Share
from circuits.options.declared import Options, Sensible, Within

MaskAblation = Literal["corrupted", "mean", "optimal"]
"""What stands in for what is masked: the corrupted run, means over the pairs' clean prompts, or
constants that begin there and are learned beside the mask."""
MaskObjective = Literal["kl-divergence", "metric"]

Above0 = Annotated[float, Within(above=0)]


@dataclass(frozen=True)
class MaskConfig(Options):
    """How gates are learned, and how many are to stay open.

    Attributes:
        size: Edges, nodes or neurons of the circuit.
        objective: What the run with gates is brought close to: the whole model's distribution over
            next tokens (kl-divergence), or its value of the metric (metric).
        ablation: What stands in for what is left out.
        epochs: How often every pair is run.
        pairs_per_step: Pairs between two updates.
        start: Gates open at first, as a multiple of the size; they close while learning begins.
        closing: Share of the steps after which no more than the size may be open.
        settling: Share of the steps after which gates are 0 and 1 and no longer random; the noise
            falls from the first step on.
        contrast: How far the first gates follow the scores: the gate's logit grows by so much when
            a score is e times as large.
        learning_rate: Of the gates' logits, by Adam.
        constant_rate: Of learned constants, by Adam, as a share of their own size.
        size_rate: Of the two multipliers that hold the size, by Adam.
    """

    size: Positive
    objective: MaskObjective = "kl-divergence"
    ablation: MaskAblation = "corrupted"
    epochs: Annotated[
        Positive, Sensible(30, math.inf, "masks.md#what-it-is-worth", "on SmolLM2")
    ] = 40
    pairs_per_step: Positive = 8
    start: Annotated[
        float,
        Within(at_least=1),
        Sensible(3, 3, "masks.md#what-it-is-worth", "from EAP-IG's scores on SmolLM2"),
    ] = 3.0
    closing: Share = 0.5
    settling: Share = 0.7
    contrast: Above0 = 2.0
    learning_rate: Above0 = 0.1
    constant_rate: Above0 = 0.02
    size_rate: Above0 = 0.5
