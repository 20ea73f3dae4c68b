"""What is asked of a circuit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from circuits.options.choices import (
    Ablation,
    Count,
    HalvedPairs,
    Level,
    NullWeights,
    Perturbation,
    Positive,
)
from circuits.options.declared import Options, Sensible, Within


@dataclass(frozen=True)
class MinimalityConfig(Options):
    """What is removed and added, each alone.

    Attributes:
        level: What is removed and added; by default edges of a circuit of edges, and nodes of the
            others.
        n_controls: How many random ones from outside are added, each alone; of edges also how many
            random paths edges are compared with, 20 at most.
        epsilon: A change of f below it counts as none.
        n_pairs: Prompt pairs to ask it on, the first of those given (default: all).
    """

    level: Level | None = None
    n_controls: Count = 50
    epsilon: Annotated[float, Within(above=0)] = 0.005
    n_pairs: (
        Annotated[Positive, Sensible(8, math.inf, "evaluation.md#evaluating-a-circuit")] | None
    ) = None


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
    n_pairs: HalvedPairs | None = None


@dataclass(frozen=True)
class StabilityConfig(Options):
    """How often the circuit is selected again, where the scores hold single examples.

    Attributes:
        n_resamples: Draws of the scored examples.
    """

    n_resamples: Annotated[int, Within(at_least=2)] = 200


@dataclass(frozen=True)
class RivalsConfig(Options):
    """Circuits by the same scores that share no edge (node, neuron) with the one found.

    Attributes:
        multiples: Their sizes, as multiples of the circuit's; the first should be 1.
    """

    multiples: tuple[Positive, ...] = (1, 2, 4)


@dataclass(frozen=True)
class NullModelConfig(Options):
    """The same scoring and selection in models that learned nothing.

    Attributes:
        weights: How their weights are made: the numbers of each tensor in another order, or initial
            ones drawn again.
        draws: How many such models.
    """

    weights: NullWeights = "shuffled"
    draws: Positive = 1


@dataclass(frozen=True)
class ClustersConfig(Options):
    """Two groups of prompts by the scores of single examples, tested against one.

    Attributes:
        n_clouds: Simulated clouds with one centre that the groups are compared with.
        n_examples: Examples at most, the first of those scored.
    """

    n_clouds: Annotated[int, Within(at_least=19)] = 99
    n_examples: Annotated[int, Within(at_least=8)] = 128


@dataclass(frozen=True)
class BackupsConfig(Options):
    """The search for nodes that take over where the circuit is ablated.

    Attributes:
        n_steps: How many are named at most.
        n_candidates: How many each step tries, those of the largest gradients.
        min_growth: A step ends the search where no candidate's removal costs so much of f, and so
            much more than in the whole model.
        n_pairs: Prompt pairs to search and report on, the first of those given (default: all).
    """

    n_steps: Positive = 4
    n_candidates: Positive = 6
    min_growth: Annotated[float, Within(above=0)] = 0.02
    n_pairs: HalvedPairs | None = None


@dataclass(frozen=True)
class EvalConfig(Options):
    """How a circuit is evaluated, and what is asked beside the curve and its own faithfulness.

    Attributes:
        minimality: How each part is removed alone; None leaves the question out.
        completeness: How sets are knocked out; None leaves the question out.
        stability: How the circuit is selected again; None leaves the question out.
        rivals: Circuits of the same scores that avoid it; None leaves the question out.
        clusters: Groups of the scored prompts, where scores hold single examples; None leaves the
            question out.
        backups: Which nodes take over where it is ablated; None leaves the question out.
        null_model: The same scoring in a model that learned nothing, which takes as long again;
            None leaves the question out.
        metric: Metric (default: each pair set's own, which further conditions always take).
        ablation: What stands in for what is left out.
        ablations: Also measure f of the circuit with these in its place, side by side.
    """

    minimality: MinimalityConfig | None = None
    completeness: CompletenessConfig | None = None
    stability: StabilityConfig | None = None
    rivals: RivalsConfig | None = RivalsConfig()
    clusters: ClustersConfig | None = ClustersConfig()
    backups: BackupsConfig | None = None
    null_model: NullModelConfig | None = None
    metric: str | None = None
    ablation: Ablation = "corrupted"
    ablations: tuple[Ablation, ...] = ("corrupted", "mean", "mean-positional", "zero")


@dataclass(frozen=True)
class PerturbationOptions(Options):
    """Changes to the wording of the evaluation pairs.

    Attributes:
        perturbations: Evaluate on perturbed pairs too.
    """

    perturbations: tuple[Perturbation, ...] = ()
