"""Which nodes take over where the circuit is ablated?

A backup does little while the circuit is there: its own removal is made good, and scores of the
whole model pass it by. So the circuit's edges (nodes, neurons), but for those out of the input, are
taken out of the whole model, and what then keeps the behaviour up is looked for:

1. Gates stand on all that is left, and one backward pass estimates what the removal of each node
   would cost there, and what it costs in the whole model. Those whose cost grew most are
   candidates.
2. Each is removed in earnest, there and in the whole model. The one whose cost grew most is a
   backup, and is taken out too. A node that the whole model needs as much is none, nor is one
   without which f does not fall (a head that works against the task, and now does so less).
3. Again from 1, until no cost grew by `min_growth` of f.

f(model without circuit) is what the circuit fails to explain (its incompleteness where all of it is
knocked out, `completeness.py`); f(model without circuit and backups) is what is left of that once
backups count as its parts. The search is made on one half of the examples and every figure is of
the other. Control: as many random other nodes in the backups' place.
Source: the growth of a removal's effect is Gong et al. (2026), "Conditional Co-Ablation", arXiv
2607.01940 (there of the output distribution and without a search); backups are Wang et al. (2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.knockout import (
    Mask,
    components_inside,
    knocked_out,
    search_and_report,
)
from circuits.evaluation.measure import Measured, faithfulness_from_means, measure
from circuits.graph import AnyCircuit, NodeCircuit
from circuits.intervention import MeanActivations, constants
from circuits.intervention.gated_runner import GatedRunner
from circuits.metrics import metric_for
from circuits.models import HookedModel
from circuits.options.choices import Ablation
from circuits.options.evaluation import BackupsConfig
from circuits.options.run import RunOptions
from circuits.runtime.batching import over_batches
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, Statistic, estimates
from tasks.pairs import PairBatch, PairSet

_CONTROLS = 3


@dataclass(frozen=True)
class Backup:
    """A node that takes over.

    name: of the node. in_circuit: whether the circuit holds it, by other edges.
    alone: how much f of the whole model falls without it.
    after: how much f falls without it once the circuit and the backups before it are out.
    growth: after less alone, paired over the examples.
    """

    name: str
    in_circuit: bool
    alone: Estimate
    after: Estimate
    growth: Estimate


@dataclass(frozen=True)
class Backups:
    """What keeps the behaviour up without the circuit.

    rest: f of the model without the circuit. without: f without the backups, too. control: f
        without as many random other nodes in their place, a mean of three draws.
    found: the backups, in the order in which they were found.
    n_search_examples: examples that they were searched on; none of them is in a figure.
    """

    rest: Estimate
    without: Estimate
    control: Estimate
    found: tuple[Backup, ...]
    n_search_examples: int


def backups(
    model: HookedModel,
    circuit: AnyCircuit,
    pairs: PairSet,
    *,
    config: BackupsConfig | None = None,
    metric: str | None = None,
    ablation: Ablation | MeanActivations = "corrupted",
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> Backups:
    """Name the nodes that take over where the circuit is ablated.

    Args:
        model: the model of the circuit.
        circuit: of edges, nodes or neurons.
        pairs: at least two prompt pairs, of which the first `config.n_pairs` are taken; half of
            them serve the search.
        config: how far to search; None takes the defaults of `BackupsConfig`.
        metric: its name, of one that has a gradient; None takes the pairs' own.
        ablation: what stands in for what is taken out, as for `measure`.
        options: batches, seed, progress; the seed is of the control and of the bootstrap.
        resume: keeps what was measured until the whole is done.

    Returns:
        The backups, and f without them, with 95 % intervals over the pairs.

    Raises:
        UndefinedMetricError: where clean and corrupted metric are equal.
        CircuitsError: where there are too few pairs, or the metric has no gradient.
    """
    config, options = config or BackupsConfig(), options or RunOptions()
    judge = metric_for(pairs, metric)
    if not judge.differentiable:
        raise CircuitsError(
            f"backups are looked for by gradients, and {judge.name} has none; name another metric"
        )
    search, report = search_and_report(pairs, config.n_pairs, "backups need")
    full_circuit = circuit.with_all()
    nodes = components_inside(full_circuit, "node")
    bench = _Bench(
        model, full_circuit, nodes, knocked_out(circuit), judge.name, ablation, options, resume
    )
    names = bench.search(search, config)
    controls = bench.random(names)
    sets = [
        *((False, (name,)) for name in names),
        *((True, names[:count]) for count in range(len(names) + 1)),
        *((True, control) for control in controls),
    ]
    measured = bench.measure(report, sets, "backups" if options.progress else None)
    rest, without, control, *figures = estimates(
        measured.columns, _figures(len(names)), seed=options.seed
    )
    n = len(names)
    inside = {*circuit.nodes}
    backup_nodes = (
        Backup(name, name in inside, *figures[index::n]) for index, name in enumerate(names)
    )
    return Backups(rest, without, control, tuple(backup_nodes), len(search))


@dataclass(frozen=True)
class _Bench:
    """Runs of the whole model without nodes, and without the circuit.

    full_circuit: all that there is. nodes: what each takes with it. out: what goes with
        the circuit.
    """

    model: HookedModel
    full_circuit: AnyCircuit
    nodes: dict[str, Mask]
    out: Mask
    metric: str
    ablation: Ablation | MeanActivations
    options: RunOptions
    resume: Pieces | None

    def measure(
        self,
        pairs: PairSet,
        sets: Sequence[tuple[bool, Sequence[str]]],
        progress: str | None = None,
    ) -> Measured:
        """The model without each set of nodes; those of True without the circuit as well."""
        return measure(
            self.model,
            pairs,
            [replace(self.full_circuit, mask=self._left(*knockout)) for knockout in sets],
            metric=self.metric,
            ablation=self.ablation,
            options=self.options,
            progress=progress,
            resume=self.resume,
        )

    def search(self, pairs: PairSet, config: BackupsConfig) -> tuple[str, ...]:
        """One backup after the other, for as long as the cost of its removal grew."""
        at_first = self._costs(pairs, self.full_circuit.mask)
        names: tuple[str, ...] = ()
        alone: dict[str, float] = {}
        for _ in range(config.n_steps):
            left = self._left(True, names)
            costs = self._costs(pairs, left)
            estimated = {
                name: costs[name] - at_first[name]
                for name, mask in self.nodes.items()
                if name not in names and bool((mask & left).any())
            }
            candidates = sorted(estimated, key=lambda name: -estimated[name])[: config.n_candidates]
            if not candidates:
                break
            new = [name for name in candidates if name not in alone]
            sets = [(True, names), *((True, (*names, name)) for name in candidates)]
            sets += [(False, (name,)) for name in new]
            f = faithfulness_from_means(self.measure(pairs, sets).columns.mean(dim=0)).tolist()
            alone |= {
                name: 1 - value for name, value in zip(new, f[len(f) - len(new) :], strict=True)
            }
            drops = {name: f[0] - f[index] for index, name in enumerate(candidates, start=1)}
            growth = {
                name: drop - alone[name]
                for name, drop in drops.items()
                if drop >= config.min_growth  # a head that hurts less now takes nothing over
            }
            best = max(growth, key=growth.__getitem__, default="")
            if not best or growth[best] < config.min_growth:
                break
            names = (*names, best)
        return names

    def random(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """As many other nodes that something is left of, in the model's order, some times over."""
        draw = torch.Generator().manual_seed(self.options.seed)
        left = self._left(True, ())
        others = [
            name for name, mask in self.nodes.items() if name not in names and (mask & left).any()
        ]
        orders = (torch.randperm(len(others), generator=draw) for _ in range(_CONTROLS))
        return [
            tuple(others[index] for index in order[: len(names)].sort().values.tolist())
            for order in orders
        ]

    def _left(self, without_circuit: bool, names: Sequence[str]) -> Mask:
        mask = (
            self.full_circuit.mask & ~self.out
            if without_circuit
            else self.full_circuit.mask.clone()
        )
        for name in names:
            mask &= ~self.nodes[name]
        return mask

    def _costs(self, pairs: PairSet, mask: Mask) -> dict[str, float]:
        """By how much the metric would fall without each node, to first order, where `mask` is
        kept; 0 where gates are not to be had, so that all candidates are alike.
        """
        if not isinstance(self.full_circuit, NodeCircuit) and not self.model.view.linear:
            return dict.fromkeys(self.nodes, 0.0)
        gradient = self._gradient(pairs, mask.float()) * mask
        return {name: float(gradient[node_mask].sum()) for name, node_mask in self.nodes.items()}

    def _gradient(self, pairs: PairSet, gates: Float[Tensor, "*gate"]) -> Float[Tensor, "*gate"]:
        judge = metric_for(pairs, self.metric)
        units = self.full_circuit.units if isinstance(self.full_circuit, NodeCircuit) else None
        neurons = self.full_circuit.level == "neuron"
        stand_in = constants(self.ablation, self.model, pairs, neurons=neurons)

        def work(model: HookedModel, batch: PairBatch) -> Float[Tensor, "*gate"]:
            runner = GatedRunner(model, batch, stand_in)
            _, gradient = runner.gradient(
                gates, lambda logits: judge(logits, batch, runner.clean), units=units
            )
            return gradient.cpu()

        total = torch.zeros_like(gates)
        for _, batch_gradient in over_batches(
            self.model, pairs, work, batch_size=self.options.batch_size
        ):
            total += batch_gradient
        return total / len(pairs)


def _figures(n: int) -> Statistic:
    """rest, without, control; then of every backup the drop alone, that after, and its growth."""

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        f = faithfulness_from_means(means)
        alone, joint, controls = f.split([n, n + 1, _CONTROLS], dim=-1)
        drops = [1 - alone, joint[..., :-1] - joint[..., 1:]]
        ends = [joint[..., :1], joint[..., -1:], controls.mean(dim=-1, keepdim=True)]
        return torch.cat([*ends, *drops, drops[1] - drops[0]], dim=-1)

    return figures
