"""How an ACDC search decides: every setting that its outcome depends on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import PlainSerializer

from circuits.errors import CircuitsError
from circuits.metrics import Metric

RESOLUTION = 1e-5

Threshold = Annotated[
    float,
    PlainSerializer(lambda tau: tau if math.isfinite(tau) else str(tau), when_used="json"),
]
"""A float; infinity is text in JSON, which has no number for it."""


@dataclass(frozen=True)
class AcdcConfig:
    """When a removed edge (or node) is put back, and in which order they are tried.

    tau: the most that the metric may change. 0 keeps the edges whose removal changes it at all;
        infinity keeps none.
    relative_to: None takes tau in the metric's units; "current" as a share of the metric before the
        removal; "model" as a share of the whole model's metric.
    criterion: what counts as a change: "absolute" is |before - after|; "signed" is before - after,
        as in the paper, under which an edge that works against the behaviour goes too.
    level: "edge" removes single edges; "node" removes heads and MLPs, with all edges out of them.
    order: of the edges into a reader: "backward" from the latest source to the input, "forward", or
        "random" by the seed.
    ablation: what the sources of removed edges give instead: the corrupted run's output, the mean
        or mean by position over the pairs' clean prompts, or zero.
    resolution: changes up to this, in the metric's units, are rounding and count as none. The
        default is for float32 and logits of the usual size.
    width: circuits run side by side; None chooses by prompt length. Up to rounding it changes
        nothing but the time.
    """

    tau: Threshold
    relative_to: Literal["current", "model"] | None = None
    criterion: Literal["absolute", "signed"] = "absolute"
    level: Literal["edge", "node"] = "edge"
    order: Literal["backward", "forward", "random"] = "backward"
    ablation: Literal["corrupted", "mean", "mean-positional", "zero"] = "corrupted"
    resolution: float = RESOLUTION
    width: int | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.tau) or self.tau < 0:
            raise CircuitsError(f"tau {self.tau}: it must be 0 or more")
        if not (math.isfinite(self.resolution) and self.resolution >= 0):
            raise CircuitsError(f"resolution {self.resolution}: it must be 0 or more")
        if self.width is not None and self.width < 1:
            raise CircuitsError(f"width {self.width}: it must be at least 1")

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
        named = {name: value for name, value in asdict(self).items() if value is not None}
        return {**named, "tau": self.tau if math.isfinite(self.tau) else str(self.tau)}

    def check(self, metric: Metric) -> None:
        """Refuse a share of a metric that is 0 for the whole model."""
        if self.relative_to is not None and metric.name == "kl-divergence":
            raise CircuitsError(
                "kl-divergence is 0 for the whole model, so no tau can be a share of it; leave "
                "relative_to out"
            )

    def keeps(self, before: float, after: float, model: float) -> bool:
        """Whether a removal changed the metric too much, so that what was removed is put back.

        Args:
            before: the metric before the removal.
            after: the metric after it.
            model: the whole model's metric.
        """
        change = before - after if self.criterion == "signed" else abs(after - before)
        base = {None: 1.0, "current": abs(before), "model": abs(model)}[self.relative_to]
        limit = self.tau if math.isinf(self.tau) else self.tau * base
        return change > limit + self.resolution
