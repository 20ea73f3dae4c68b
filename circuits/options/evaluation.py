"""What is asked of a circuit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from circuits.options.choices import Ablation, Count, Level, Perturbation, Positive
from circuits.options.declared import Options, Within


@dataclass(frozen=True)
class MinimalityConfig(Options):
    """What is removed and added, each alone.

    Attributes:
        level: What is removed and added; by default edges of a circuit of edges, and nodes of the
            others.
        n_controls: How many random ones from outside are added, each alone.
        epsilon: A change of f below it counts as none.
        n_pairs: Prompt pairs to ask it on, the first of those given (default: all).
    """

    level: Level | None = None
    n_controls: Count = 50
    epsilon: Annotated[float, Within(above=0)] = 0.005
    n_pairs: Positive | None = None


@dataclass(frozen=True)
class CompletenessConfig(Options):
    """Which sets are knocked out.

    Attributes:
        level: What they are sets of: nodes, edges (of circuits of edges), or neurons (of others).
        n_sets: How many random sets.
        n_steps: How many members the greedy set has at most.
        n_candidates: How many random members each step of the greedy search tries.
        n_pairs: Prompt pairs to ask it on, the first of those given (default: all).
    """

    level: Level = "node"
    n_sets: Positive = 10
    n_steps: Positive = 4
    n_candidates: Positive = 6
    n_pairs: Annotated[int, Within(at_least=2)] | None = None


@dataclass(frozen=True)
class StabilityConfig(Options):
    """How often the circuit is selected again, where the scores hold single examples.

    Attributes:
        n_resamples: Draws of the scored examples.
    """

    n_resamples: Annotated[int, Within(at_least=2)] = 200


@dataclass(frozen=True)
class EvalConfig(Options):
    """How a circuit is evaluated, and what is asked beside the curve and its own faithfulness.

    Attributes:
        minimality: How each part is removed alone; None leaves the question out.
        completeness: How sets are knocked out; None leaves the question out.
        stability: How the circuit is selected again; None leaves the question out.
        metric: Metric (default: each pair set's own, which further conditions always take).
        ablation: What stands in for what is left out.
    """

    minimality: MinimalityConfig | None = None
    completeness: CompletenessConfig | None = None
    stability: StabilityConfig | None = None
    metric: str | None = None
    ablation: Ablation = "corrupted"


@dataclass(frozen=True)
class PerturbationOptions(Options):
    """Changes to the wording of the evaluation pairs.

    Attributes:
        perturbations: Evaluate on perturbed pairs too.
    """

    perturbations: tuple[Perturbation, ...] = ()
