"""How edges are scored, and by which metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from circuits.options.choices import Quadrature, Share
from circuits.options.declared import Options, Sensible


@dataclass(frozen=True)
class MetricOptions(Options):
    """What the model is judged by.

    Attributes:
        metric: What is measured of the answers: logit-difference, answer-log-probability,
            probability-difference, kl-divergence, or accuracy, which judges circuits and scores no
            edges (default: the task's own).
        require_accuracy: Stop before the work if the model's accuracy on the clean prompts is
            lower, as in 0.6; it is measured and said in any case.
    """

    metric: str | None = None
    require_accuracy: Share | None = None


@dataclass(frozen=True)
class AttributionOptions(Options):
    """A method of `circuits.attribution.METHODS`, and its settings; None takes the method's own.

    Attributes:
        method: How scores are made: {methods}.
        steps: Points on the path from corrupted to clean, or auto: as many as an example needs
            (default of eap-ig: 5).
        tolerance: For steps auto, the largest estimated error of an example (default: 0.02).
        quadrature: Where the points lie (default of eap-ig: midpoint; left is that of EAP-IG's own
            code).
        force: For the method exact: run it however long it takes.
    """

    method: str = "eap-ig"
    steps: Annotated[
        int | Literal["auto"] | None, Sensible(5, 10, "quadrature.md#a-real-model")
    ] = None
    tolerance: Annotated[float, Sensible(0.02, 0.05, "quadrature.md#stepsauto")] | None = None
    quadrature: Quadrature | None = None
    force: bool = False

    @property
    def settings(self) -> dict[str, object]:
        """The settings that were given, as `circuits.attribution.method` takes them."""
        return {
            "steps": self.steps,
            "tolerance": self.tolerance,
            "quadrature": self.quadrature,
            "force": self.force or None,
        }
