"""Does every edge (node, neuron) of a circuit matter? The drop in f when it alone is removed.

Control: random edges (nodes, neurons) from outside, each added alone. What adding an irrelevant one
does to f is the size of a change that means nothing.
Source: Wang et al. (2022), "Interpretability in the Wild" (there of nodes).

Test (of edges): a random path from input to logits is added to the circuit, and one of its new
edges is removed again. An edge of the circuit is needed if its removal changes f by more than such
removals do. H0 says that it does so of 9 in 10 of them or more; p is binomial, and an edge whose p
is below .05 over the number of edges (Bonferroni) is rejected as no better than a random one.
Source: Shi et al. (2024), arXiv 2410.13032, the test of minimality.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.knockout import Mask, components_inside, components_outside
from circuits.evaluation.measure import faithfulness_from_means, measure
from circuits.graph import AnyCircuit, Circuit
from circuits.graph.controls import random_path
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.options.choices import Ablation, Level
from circuits.options.evaluation import MinimalityConfig
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairSet

_ALPHA = 0.05
_QUANTILE = 0.9
_PATHS = 20  # enough: an edge that beats 10 of them has p < .00001
_TRIALS = 4  # paths drawn for each that is wanted: some may lie within the circuit
_SAME = 1e-6  # in f: a difference below it is rounding


@dataclass(frozen=True)
class MinimalityTest:
    """Edges held against edges of random paths that were added to the circuit.

    needless: edges rejected as no better than those, in the order of `Minimality.drops`.
    n_paths: how many paths.
    changes: the changes of |f| that removing an edge of a path made: median and quantile .9.
    """

    needless: tuple[str, ...]
    n_paths: int
    changes: tuple[float, float]

    @property
    def rejected(self) -> bool:
        """Whether the circuit is shown not to be minimal, at the 5 % level."""
        return bool(self.needless)


@dataclass(frozen=True)
class Minimality:
    """Changes of f, one edge (node, neuron) at a time.

    level: what was removed and added.
    faithfulness: f of the circuit on these examples.
    drops: f(C) - f(C without x), by the name of x, largest first where they were measured just now.
    control: f(C with x) - f(C), of random ones from outside.
    epsilon: a change of f below it counts as none.
    test: of edges; None for nodes and neurons.
    """

    level: Level
    faithfulness: Estimate
    drops: dict[str, Estimate]
    control: dict[str, Estimate]
    epsilon: float
    test: MinimalityTest | None = None

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
    masks += [circuit.mask & ~component for component in inside.values()]
    masks += [circuit.mask | component for component in outside.values()]
    n_paths = min(config.n_controls, _PATHS) if level == "edge" else 0
    inflated = _inflated(circuit, n_paths, options.seed) if n_paths else []
    masks += [mask for mask_pair in inflated for mask in mask_pair]
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

    single_edits = range(1 + len(sign))

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        f = faithfulness_from_means(means)
        return torch.cat([f[..., :1], (f[..., :1] - f[..., 1:]) * sign], dim=-1)

    f_circuit, *changes = estimates(measured.of(single_edits), figures, seed=options.seed)
    named_changes = list(zip([*inside, *outside], changes, strict=True))
    drops = dict(sorted(named_changes[: len(inside)], key=lambda item: -item[1].value))
    test = None
    if inflated:
        path_columns = measured.of(range(len(single_edits), measured.circuits.shape[1]))
        f = faithfulness_from_means(path_columns.mean(dim=0)).view(-1, 2)
        test = _test(drops, (f[:, 0] - f[:, 1]).abs())
    return Minimality(
        level, f_circuit, drops, dict(named_changes[len(inside) :]), config.epsilon, test
    )


def _inflated(circuit: AnyCircuit, n: int, seed: int) -> list[tuple[Mask, Mask]]:
    """The circuit with a random path that it lacks an edge of, and that without such an edge."""
    assert isinstance(circuit, Circuit)
    draw = torch.Generator().manual_seed(seed)
    mask_pairs: list[tuple[Mask, Mask]] = []
    for _ in range(_TRIALS * n):
        new = [edge for edge in random_path(circuit, draw) if not circuit.mask[edge]]
        if new and len(mask_pairs) < n:
            mask = circuit.mask.clone()
            mask[tuple(zip(*new, strict=True))] = True
            without = mask.clone()
            without[new[int(torch.randint(len(new), (), generator=draw))]] = False
            mask_pairs.append((mask, without))
    return mask_pairs


def _test(drops: Mapping[str, Estimate], changes: Float[Tensor, " path"]) -> MinimalityTest:
    """Each edge against all changes that edges of random paths made."""
    from scipy.stats import binom  # takes most of a second to import

    n = len(changes)
    needless = []
    for name, drop in drops.items():
        beaten = int((changes < abs(drop.value) - _SAME).sum())
        if binom.cdf(beaten, n, _QUANTILE) <= _ALPHA / len(drops):
            needless.append(name)
    ends = changes.quantile(torch.tensor([0.5, _QUANTILE], dtype=changes.dtype)).tolist()
    return MinimalityTest(tuple(needless), n, (ends[0], ends[1]))
