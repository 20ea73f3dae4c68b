"""Does a circuit hold all that matters? Knock a set K out of it, and out of the whole model.

If nothing outside the circuit takes part, both are left with the same behaviour:

    incompleteness(K) = |f(C without K) - f(model without K)|

K are distinct random sets of the circuit's nodes (or edges), of sizes spread from 1 to half of
them, and one grown greedily: at each step, of a few random candidates, the one that widens the gap
most, until none does or all but one of the nodes are in it. The greedy set is searched on one half
of the examples and every figure is reported on the other, so that it is no larger for having been
looked for.
Control: the same sets, with a random circuit of as many edges in the circuit's place.
Source: Wang et al. (2022), "Interpretability in the Wild", 4.1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.knockout import Mask, components_inside, search_and_report
from circuits.evaluation.measure import Measured, faithfulness_from_means, measure
from circuits.graph import AnyCircuit
from circuits.graph.controls import random_circuit
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.options.choices import Ablation, Level
from circuits.options.evaluation import CompletenessConfig
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, Statistic, estimates
from tasks.pairs import PairSet


@dataclass(frozen=True)
class Knockout:
    """One set K.

    components: its nodes (edges, neurons). circuit, model: f of either without it.
    incompleteness: the gap between them. control: that of a random circuit.
    """

    components: tuple[str, ...]
    circuit: Estimate
    model: Estimate
    incompleteness: Estimate
    control: Estimate


@dataclass(frozen=True)
class Completeness:
    """How far circuit and model are apart without the same sets.

    level: what the sets are of: "edge", "node" or "neuron".
    incompleteness: the mean over the random sets. control: that of a random circuit of as many
        edges.
    random, greedy: the sets.
    n_search_examples: examples that the greedy set was searched on; none of them is in a figure.
    n_requested: random sets asked for; a small circuit has fewer distinct ones.
    """

    level: Level
    incompleteness: Estimate
    control: Estimate
    random: tuple[Knockout, ...]
    greedy: Knockout
    n_search_examples: int
    n_requested: int


def completeness(
    model: HookedModel,
    circuit: AnyCircuit,
    pairs: PairSet,
    *,
    config: CompletenessConfig | None = None,
    metric: str | None = None,
    ablation: Ablation | MeanActivations = "corrupted",
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> Completeness:
    """Knock sets of nodes out of the circuit and out of the whole model, and compare the two.

    Args:
        model: the model of the circuit.
        circuit: of edges, nodes or neurons; not empty.
        pairs: at least two prompt pairs, of which the first `config.n_pairs` are taken; half of
            them serve the greedy search.
        config: which sets; None takes the defaults of `CompletenessConfig`.
        metric: its name; None takes the pairs' own.
        ablation: what stands in for what is left out, as for `measure`.
        options: batches, seed, progress; the seed is of the sets and of the bootstrap.
        resume: keeps what was measured until the whole is done.

    Returns:
        The mean gap over the random sets, each set's own, and the greedy set's, with intervals.

    Raises:
        UndefinedMetricError: where clean and corrupted metric are equal.
        CircuitsError: where the circuit is empty or there are too few pairs.
    """
    config, options = config or CompletenessConfig(), options or RunOptions()
    components = components_inside(circuit, config.level)
    if not components:
        raise CircuitsError(
            f"an empty circuit has no {config.level}s to knock out; select more edges"
        )
    search, report = search_and_report(pairs, config.n_pairs, "completeness needs")
    draw = torch.Generator().manual_seed(options.seed)
    bench = _Bench(model, circuit, components, metric, ablation, options, resume)
    sets = _distinct(list(components), config.n_sets, draw)
    sets.append(bench.greedy(search, config, draw))
    control = random_circuit(circuit, seed=options.seed)
    measured = bench.measure(
        report, sets, [circuit, control], "completeness" if options.progress else None
    )
    figures = estimates(measured.columns, _figures(len(sets)), seed=options.seed)
    incompleteness, of_control, *rest = figures
    *random, greedy = (
        Knockout(components, *rest[index :: len(sets)]) for index, components in enumerate(sets)
    )
    return Completeness(
        level=config.level,
        incompleteness=incompleteness,
        control=of_control,
        random=tuple(random),
        greedy=greedy,
        n_search_examples=len(search),
        n_requested=config.n_sets,
    )


@dataclass(frozen=True)
class _Bench:
    """Runs of a circuit and of the whole model without sets of components."""

    model: HookedModel
    circuit: AnyCircuit
    components: dict[str, Mask]
    metric: str | None
    ablation: Ablation | MeanActivations
    options: RunOptions
    resume: Pieces | None

    def measure(
        self,
        pairs: PairSet,
        sets: Sequence[Sequence[str]],
        circuits: Sequence[AnyCircuit],
        progress: str | None = None,
    ) -> Measured:
        """The whole model without each set, then each circuit without each set."""
        variants = [
            replace(circuit, mask=circuit.mask & ~self._union(names))
            for circuit in (self.circuit.with_all(), *circuits)
            for names in sets
        ]
        return measure(
            self.model,
            pairs,
            variants,
            metric=self.metric,
            ablation=self.ablation,
            options=self.options,
            progress=progress,
            resume=self.resume,
        )

    def greedy(
        self, pairs: PairSet, config: CompletenessConfig, draw: torch.Generator
    ) -> tuple[str, ...]:
        """Grow K by whichever candidate widens the gap most, for as long as one does.

        Never to the whole circuit, unless that is one component: little is left of either side
        then, and the gap is small whatever the circuit lacks.
        """
        grown: tuple[str, ...] = ()
        widest = -1.0
        for _ in range(min(config.n_steps, max(1, len(self.components) - 1))):
            left = [name for name in self.components if name not in grown]
            trials = [(*grown, name) for name in _drawn(left, config.n_candidates, draw)]
            measured = self.measure(pairs, trials, [self.circuit])
            f = faithfulness_from_means(measured.columns.mean(dim=0))
            f = rearrange(f, "(run tried) -> run tried", run=2)
            gap, index = (f[1] - f[0]).abs().max(dim=0)
            if float(gap) <= widest:
                break
            grown, widest = trials[int(index)], float(gap)
        return grown

    def _union(self, names: Sequence[str]) -> Mask:
        return torch.stack([self.components[name] for name in names]).any(dim=0)


def _drawn(names: Sequence[str], n: int, draw: torch.Generator) -> tuple[str, ...]:
    """Up to n of the names, in the model's order."""
    order = torch.randperm(len(names), generator=draw)[:n].sort().values.tolist()
    return tuple(names[index] for index in order)


def _distinct(names: Sequence[str], n_sets: int, draw: torch.Generator) -> list[tuple[str, ...]]:
    """Sets of sizes spread from 1 to half of the names, no two alike; fewer if there are fewer."""
    most = max(1, len(names) // 2)
    subsets: dict[tuple[str, ...], None] = {}
    for size, wanted in Counter(torch.linspace(1, most, n_sets).round().int().tolist()).items():
        n_target = len(subsets) + min(wanted, math.comb(len(names), size))
        while len(subsets) < n_target:
            subsets[_drawn(names, size, draw)] = None
    return list(subsets)


def _figures(n_sets: int) -> Statistic:
    """Mean gap of circuit and control; then, set by set, f of circuit and model, and both gaps."""

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        f = faithfulness_from_means(means)
        f = rearrange(f, "... (run knockout) -> ... run knockout", knockout=n_sets)
        f_model, f_circuit, f_control = f.unbind(dim=-2)
        gap, other = (f_circuit - f_model).abs(), (f_control - f_model).abs()
        averages = [gaps[..., :-1].mean(dim=-1, keepdim=True) for gaps in (gap, other)]
        return torch.cat([*averages, f_circuit, f_model, gap, other], dim=-1)

    return figures
