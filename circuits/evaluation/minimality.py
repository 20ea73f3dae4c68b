"""Does every edge (node, neuron) of a circuit matter? The fall in f when it alone is removed.

Control: random edges (nodes, neurons) from outside, each added alone. What adding an irrelevant one
does to f is the size of a change that means nothing.
Source: Wang et al. (2022), "Interpretability in the Wild" (there of nodes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from circuits.errors import CircuitsError
from circuits.evaluation.measure import measure, shares
from circuits.evaluation.units import units_inside, units_outside
from circuits.graph import AnyCircuit, Circuit
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairSet


@dataclass(frozen=True)
class Minimality:
    """Changes of f, unit by unit.

    falls: f(C) - f(C without the unit), units of the circuit, largest first.
    control: f(C with the unit) - f(C), random units from outside.
    idle: share of the circuit's units whose removal moves f by less than `epsilon`.
    """

    faithfulness: Estimate
    drops: dict[str, Estimate]
    control: dict[str, Estimate]
    epsilon: float
    unit: str = "edges"

    @property
    def redundant_fraction(self) -> float:
        """Share of the circuit whose removal moves f by less than epsilon."""
        still = sum(abs(fall.value) < self.epsilon for fall in self.drops.values())
        return still / len(self.drops)

    @property
    def control_redundant_fraction(self) -> float | None:
        """The same share in the control; None where nothing lies outside."""
        if not self.control:
            return None
        still = sum(abs(change.value) < self.epsilon for change in self.control.values())
        return still / len(self.control)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "unit": self.unit,
            "faithfulness": self.faithfulness.to_dict(),
            "epsilon": self.epsilon,
            "idle": self.redundant_fraction,
            "control_idle": self.control_redundant_fraction,
            "falls": {edge: fall.to_dict() for edge, fall in self.drops.items()},
            "control": {edge: change.to_dict() for edge, change in self.control.items()},
        }


def minimality(
    model: HookedModel,
    circuit: AnyCircuit,
    pairs: PairSet,
    *,
    unit: str | None = None,
    metric: str | None = None,
    ablation: str | MeanActivations = "corrupted",
    epsilon: float = 0.005,
    controls: int = 50,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
    resume: Pieces | None = None,
) -> Minimality:
    """Remove each unit of the circuit alone, and add some others alone.

    unit: "edges" (unless told, of a circuit of edges), "nodes" (of others), or "neurons", of which
        there are many.
    """
    unit = unit or ("edges" if isinstance(circuit, Circuit) else "nodes")
    inside = units_inside(circuit, unit)
    if not inside:
        raise CircuitsError(f"an empty circuit has no {unit} to remove; select more edges")
    outside = units_outside(circuit, unit, controls, seed=seed)
    masks = [circuit.mask]
    masks += [circuit.mask & ~taken for taken in inside.values()]
    masks += [circuit.mask | brought for brought in outside.values()]
    measured = measure(
        model,
        pairs,
        [replace(circuit, mask=mask) for mask in masks],
        metric=metric,
        ablation=ablation,
        batch_size=batch_size,
        progress="minimality" if progress else None,
        resume=resume,
    )
    sign = torch.tensor([1.0] * len(inside) + [-1.0] * len(outside), dtype=torch.float64)

    def figures(means: torch.Tensor) -> torch.Tensor:
        f = shares(means)
        return torch.cat([f[..., :1], (f[..., :1] - f[..., 1:]) * sign], dim=-1)

    whole, *changes = estimates(measured.columns, figures, seed=seed)
    found = list(zip([*inside, *outside], changes, strict=True))
    drops = sorted(found[: len(inside)], key=lambda item: -item[1].value)
    return Minimality(whole, dict(drops), dict(found[len(inside) :]), epsilon, unit)
