"""Does a circuit hold all that matters? Knock a set K out of it, and out of the whole model.

If nothing outside the circuit takes part, both are left with the same behaviour:

    gap(K) = |f(C without K) - f(model without K)|

K are distinct random sets of the circuit's nodes (or edges), of sizes spread from 1 to half of
them, and one grown greedily: at each step, of a few random candidates, the one that widens the gap
most, until none does or all but one of the nodes are in it. The greedy set is searched on one half
of the examples and every gap is reported on the other, so that it is no larger for having been
looked for.
Control: the same sets, with a random circuit of as many edges in the circuit's place.
Source: Wang et al. (2022), "Interpretability in the Wild", 4.1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.measure import Measured, measure, shares
from circuits.evaluation.robustness import random_circuit
from circuits.evaluation.units import Mask, units_inside
from circuits.graph import AnyCircuit
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, Statistic, estimates
from tasks.pairs import PairSet


@dataclass(frozen=True)
class Knockout:
    """One set K. circuit, model: f without it. gap: between them. control: of a random circuit."""

    units: tuple[str, ...]
    circuit: Estimate
    model: Estimate
    gap: Estimate
    control: Estimate

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        figures = {name: getattr(self, name) for name in ("circuit", "model", "gap", "control")}
        return {"units": list(self.units), **{key: one.to_dict() for key, one in figures.items()}}


@dataclass(frozen=True)
class Completeness:
    """Gaps of random sets and of the greedy one.

    mean: of the random sets' gaps. control: the same for a random circuit of as many edges.
    searched: number of examples that the greedy set was searched on; none of them is in a figure.
    asked: number of random sets asked for; a small circuit has fewer distinct ones.
    """

    unit: str
    mean: Estimate
    control: Estimate
    random: tuple[Knockout, ...]
    greedy: Knockout
    searched: int
    asked: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "unit": self.unit,
            "mean": self.mean.to_dict(),
            "control": self.control.to_dict(),
            "random": [one.to_dict() for one in self.random],
            "greedy": self.greedy.to_dict(),
            "searched": self.searched,
            "asked": self.asked,
        }


def completeness(
    model: HookedModel,
    circuit: AnyCircuit,
    pairs: PairSet,
    *,
    unit: str = "nodes",
    sets: int = 10,
    steps: int = 4,
    candidates: int = 6,
    metric: str | None = None,
    ablation: str | MeanActivations = "corrupted",
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
    resume: Pieces | None = None,
) -> Completeness:
    """Knock `sets` random sets of nodes (or unit "edges", "neurons") out, and a greedy one of at
    most `steps`.

    candidates: how many random units each step of the greedy search tries.
    """
    units = units_inside(circuit, unit)
    if not units:
        raise CircuitsError(f"an empty circuit has no {unit} to knock out; select more edges")
    if len(pairs) < 2:
        raise CircuitsError("completeness needs two pairs: one half to search on, one to report on")
    if min(sets, steps, candidates) < 1:
        raise CircuitsError("completeness: sets, steps and candidates must be at least 1")
    search, report = (replace(pairs, pairs=pairs.pairs[half::2]) for half in (1, 0))
    draw = torch.Generator().manual_seed(seed)
    bench = _Bench(model, circuit, units, metric, ablation, batch_size, resume)
    chosen = _distinct(list(units), sets, draw)
    greedy = bench.greedy(search, steps, candidates, draw)
    control = random_circuit(circuit, seed=seed)
    measured = bench.measure(
        report, [*chosen, greedy], [circuit, control], "completeness" if progress else None
    )
    found = estimates(measured.columns, _gaps(len(chosen) + 1), seed=seed)
    mean, of_control, *rest = found
    knockouts = [
        Knockout(K, *rest[place :: len(chosen) + 1]) for place, K in enumerate([*chosen, greedy])
    ]
    *random, grown = knockouts
    return Completeness(unit, mean, of_control, tuple(random), grown, len(search), sets)


@dataclass(frozen=True)
class _Bench:
    """Runs of a circuit and of the whole model without sets of units."""

    model: HookedModel
    circuit: AnyCircuit
    units: dict[str, Mask]
    metric: str | None
    ablation: str | MeanActivations
    batch_size: int | None
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
            replace(whole, mask=whole.mask & ~self._union(units))
            for whole in (self.circuit.whole(), *circuits)
            for units in sets
        ]
        return measure(
            self.model,
            pairs,
            variants,
            metric=self.metric,
            ablation=self.ablation,
            batch_size=self.batch_size,
            progress=progress,
            resume=self.resume,
        )

    def greedy(
        self, pairs: PairSet, steps: int, candidates: int, draw: torch.Generator
    ) -> tuple[str, ...]:
        """Grow K by whichever candidate widens the gap most, for as long as one does.

        Never to the whole circuit, unless that is one unit: little is left of either side then, and
        the gap is small whatever the circuit lacks.
        """
        grown: tuple[str, ...] = ()
        widest = -1.0
        for _ in range(min(steps, max(1, len(self.units) - 1))):
            left = [name for name in self.units if name not in grown]
            tried = [(*grown, name) for name in _drawn(left, candidates, draw)]
            measured = self.measure(pairs, tried, [self.circuit])
            f = shares(measured.columns.mean(dim=0)).view(2, len(tried))
            gap, place = (f[1] - f[0]).abs().max(dim=0)
            if float(gap) <= widest:
                break
            grown, widest = tried[int(place)], float(gap)
        return grown

    def _union(self, units: Sequence[str]) -> Mask:
        return torch.stack([self.units[name] for name in units]).any(dim=0)


def _drawn(names: Sequence[str], n: int, draw: torch.Generator) -> tuple[str, ...]:
    """Up to n of the names, in the model's order."""
    places = torch.randperm(len(names), generator=draw)[:n].sort().values.tolist()
    return tuple(names[place] for place in places)


def _distinct(names: Sequence[str], sets: int, draw: torch.Generator) -> list[tuple[str, ...]]:
    """Sets of sizes spread from 1 to half of the names, no two alike; fewer if there are fewer."""
    most = max(1, len(names) // 2)
    chosen: dict[tuple[str, ...], None] = {}
    for size, wanted in Counter(torch.linspace(1, most, sets).round().int().tolist()).items():
        there = len(chosen) + min(wanted, math.comb(len(names), size))
        while len(chosen) < there:
            chosen[_drawn(names, size, draw)] = None
    return list(chosen)


def _gaps(sets: int) -> Statistic:
    """Mean gaps of circuit and control; f of circuit and model, gap and control's gap by set."""

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        whole, kept, control = shares(means).unflatten(-1, (3, sets)).unbind(dim=-2)
        gap, other = (kept - whole).abs(), (control - whole).abs()
        averages = [one[..., :-1].mean(dim=-1, keepdim=True) for one in (gap, other)]
        return torch.cat([*averages, kept, whole, gap, other], dim=-1)

    return figures
