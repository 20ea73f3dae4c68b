"""Does every edge (node, neuron) of a circuit matter? The drop in f when it alone is removed.

Control: random edges (nodes, neurons) from outside, each added alone. What adding an irrelevant one
does to f is the size of a change that means nothing.
Source: Wang et al. (2022), "Interpretability in the Wild" (there of nodes).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.knockout import components_inside, components_outside
from circuits.evaluation.measure import faithfulness_from_means, measure
from circuits.graph import AnyCircuit, Circuit
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.options.choices import Ablation, Level
from circuits.options.evaluation import MinimalityConfig
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairSet


@dataclass(frozen=True)
class Minimality:
    """Changes of f, one edge (node, neuron) at a time.

    level: what was removed and added.
    faithfulness: f of the circuit on these examples.
    drops: f(C) - f(C without x), by the name of x, largest first where they were measured just now.
    control: f(C with x) - f(C), of random ones from outside.
    epsilon: a change of f below it counts as none.
    """

    level: Level
    faithfulness: Estimate
    drops: dict[str, Estimate]
    control: dict[str, Estimate]
    epsilon: float

    @property
    def redundant_fraction(self) -> float:
        """Fraction of the circuit whose removal, one by one, moves f by less than epsilon."""
        return self._redundant(self.drops.values())

    @property
    def control_redundant_fraction(self) -> float | None:
        """The same fraction of the control; None where nothing lies outside."""
        return self._redundant(self.control.values()) if self.control else None

    def _redundant(self, changes: Collection[Estimate]) -> float:
        return sum(abs(change.value) < self.epsilon for change in changes) / len(changes)


def minimality(
    model: HookedModel,
    circuit: AnyCircuit,
    pairs: PairSet,
    *,
    config: MinimalityConfig | None = None,
    metric: str | None = None,
    ablation: Ablation | MeanActivations = "corrupted",
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> Minimality:
    """Remove each edge (node, neuron) of the circuit alone, and add some others alone.

    Args:
        model: the model of the circuit.
        circuit: of edges, nodes or neurons; not empty.
        pairs: prompt pairs, of which the first `config.n_pairs` are run once for each edge.
        config: what is removed and added; None takes the defaults of `MinimalityConfig`.
        metric: its name; None takes the pairs' own.
        ablation: what stands in for what is left out, as for `measure`.
        options: batches, seed, progress; the seed is of the control and of the bootstrap.
        resume: keeps what was measured until the whole is done.

    Returns:
        The drop in f for each, and the control's changes, with intervals.

    Raises:
        UndefinedMetricError: where clean and corrupted metric are equal.
        CircuitsError: where the circuit is empty, or has none of what is to be removed.
    """
    config, options = config or MinimalityConfig(), options or RunOptions()
    pairs = pairs[: config.n_pairs]
    level = config.level or ("edge" if isinstance(circuit, Circuit) else "node")
    inside = components_inside(circuit, level)
    if not inside:
        raise CircuitsError(f"an empty circuit has no {level} to remove; select more edges")
    outside = components_outside(circuit, level, config.n_controls, seed=options.seed)
    masks = [circuit.mask]
    masks += [circuit.mask & ~taken for taken in inside.values()]
    masks += [circuit.mask | brought for brought in outside.values()]
    measured = measure(
        model,
        pairs,
        [replace(circuit, mask=mask) for mask in masks],
        metric=metric,
        ablation=ablation,
        options=options,
        progress="minimality" if options.progress else None,
        resume=resume,
    )
    sign = torch.tensor([1.0] * len(inside) + [-1.0] * len(outside), dtype=torch.float64)

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        f = faithfulness_from_means(means)
        return torch.cat([f[..., :1], (f[..., :1] - f[..., 1:]) * sign], dim=-1)

    whole, *changes = estimates(measured.columns, figures, seed=options.seed)
    found = list(zip([*inside, *outside], changes, strict=True))
    drops = sorted(found[: len(inside)], key=lambda item: -item[1].value)
    return Minimality(level, whole, dict(drops), dict(found[len(inside) :]), config.epsilon)
