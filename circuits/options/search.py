"""How a search by removal decides: every setting that its outcome depends on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Annotated

from circuits.errors import CircuitsError
from circuits.options.choices import (
    Ablation,
    HeadAblation,
    Positive,
    RelativeTo,
    RemovalCriterion,
    RemovalLevel,
    TrialOrder,
)
from circuits.options.declared import Options, Sensible, Within

RESOLUTION = 1e-5


@dataclass(frozen=True)
class AcdcConfig(Options):
    """When a removed edge (or node) is put back, and in which order they are tried.

    Attributes:
        tau: The most that a removal may change the metric; must be given. 0 keeps all that changes
            the metric at all, inf keeps nothing.
        relative_to: Make tau a share of the metric before the removal (current) or of the whole
            model's (model); by default it is in the metric's units.
        criterion: What counts as a change: |before - after| (absolute), or before - after (signed,
            as in the paper), which also removes what works against the behaviour.
        level: Remove single edges (edge), or heads and MLPs with all edges out of them (node).
        order: Try the edges into a reader from the latest source to the input (backward), the other
            way (forward), or at random by the seed (random).
        ablation: What a removed edge carries instead.
        resolution: Changes up to this, in the metric's units, are rounding and count as none.
        width: Circuits run side by side (default: by prompt length); it changes only the time.
    """

    tau: float
    relative_to: RelativeTo | None = None
    criterion: RemovalCriterion = "absolute"
    level: RemovalLevel = "edge"
    order: TrialOrder = "backward"
    ablation: Ablation = "corrupted"
    resolution: Annotated[float, Sensible(RESOLUTION, math.inf, "search.md#acdc")] = RESOLUTION
    width: Positive | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if math.isnan(self.tau) or self.tau < 0:
            raise CircuitsError(f"tau {self.tau}: it must be 0 or more")
        if not (math.isfinite(self.resolution) and self.resolution >= 0):
            raise CircuitsError(f"resolution {self.resolution}: it must be 0 or more")

    @property
    def prunes(self) -> bool:
        """Whether the circuit is pruned: under "corrupted" alone, where that changes no logit.

        With mean or zero ablation, a source that is disconnected from the input still outputs a
        constant, so edges out of it still matter.
        """
        return self.ablation == "corrupted"

    @property
    def settings(self) -> dict[str, float | int | str]:
        """The settings that are not None, as a circuit's provenance holds them."""
        settings = {name: value for name, value in asdict(self).items() if value is not None}
        return {**settings, "tau": self.tau if math.isfinite(self.tau) else str(self.tau)}

    def keeps(self, before: float, after: float, model: float) -> bool:
        """Whether a removal changed the metric too much, so that what was removed is put back.

        Args:
            before: the metric before the removal.
            after: the metric after it.
            model: the whole model's metric.

        Returns:
            True where it is put back.
        """
        change = before - after if self.criterion == "signed" else abs(after - before)
        base = {None: 1.0, "current": abs(before), "model": abs(model)}[self.relative_to]
        limit = self.tau if math.isinf(self.tau) else self.tau * base
        return change > limit + self.resolution


@dataclass(frozen=True)
class HeadPruningConfig(Options):
    """How head pruning decides which heads to remove.

    Attributes:
        max_drop: The share of the metric at a layer's start that may be lost in this layer; must be
            given.
        ablation: What a removed head's z becomes: zero, or its mean over the clean prompts.
    """

    max_drop: Annotated[float, Within(at_least=0, below=1)]
    ablation: HeadAblation = "zero"
