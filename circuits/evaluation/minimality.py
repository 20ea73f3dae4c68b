"""Does every edge of a circuit matter? The fall in f when it alone is removed.

Control: random edges from outside, each added alone. What adding an irrelevant edge does to f is
the size of a change that means nothing.
Source: Wang et al. (2022), "Interpretability in the Wild" (there of nodes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from circuits.errors import CircuitsError
from circuits.evaluation.intervals import Estimate, estimates
from circuits.evaluation.measure import measure, shares
from circuits.graph import Circuit
from circuits.models import HookedModel
from tasks.pairs import PairSet


@dataclass(frozen=True)
class Minimality:
    """Changes of f, edge by edge.

    falls: f(C) - f(C without the edge), edges of the circuit, largest first.
    control: f(C with the edge) - f(C), random edges from outside.
    idle: share of the circuit's edges whose removal moves f by less than `epsilon`.
    """

    faithfulness: Estimate
    falls: dict[str, Estimate]
    control: dict[str, Estimate]
    epsilon: float

    @property
    def idle(self) -> float:
        """Share of the circuit whose removal moves f by less than epsilon."""
        still = sum(abs(fall.value) < self.epsilon for fall in self.falls.values())
        return still / len(self.falls)

    @property
    def control_idle(self) -> float | None:
        """The same share among the control's edges; None where no edge lies outside."""
        if not self.control:
            return None
        still = sum(abs(change.value) < self.epsilon for change in self.control.values())
        return still / len(self.control)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "faithfulness": self.faithfulness.to_dict(),
            "epsilon": self.epsilon,
            "idle": self.idle,
            "control_idle": self.control_idle,
            "falls": {edge: fall.to_dict() for edge, fall in self.falls.items()},
            "control": {edge: change.to_dict() for edge, change in self.control.items()},
        }


def minimality(
    model: HookedModel,
    circuit: Circuit,
    pairs: PairSet,
    *,
    metric: str | None = None,
    epsilon: float = 0.005,
    controls: int = 50,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Minimality:
    """Remove each edge of the circuit alone, and add each of some random others alone."""
    layout = circuit.layout
    inside = circuit.mask.nonzero().tolist()
    if not inside:
        raise CircuitsError("an empty circuit has no edge to remove; select more edges")
    others = (layout.mask & ~circuit.mask).nonzero()
    draw = torch.Generator().manual_seed(seed)
    outside = others[torch.randperm(len(others), generator=draw)[:controls]].tolist()
    variants = [circuit]
    for row, column in [*inside, *outside]:
        mask = circuit.mask.clone()
        mask[row, column] = ~mask[row, column]
        variants.append(Circuit(layout, mask))
    measured = measure(
        model,
        pairs,
        variants,
        metric=metric,
        batch_size=batch_size,
        progress="minimality" if progress else None,
    )
    sign = torch.tensor([1.0] * len(inside) + [-1.0] * len(outside), dtype=torch.float64)

    def figures(means: torch.Tensor) -> torch.Tensor:
        f = shares(means)
        return torch.cat([f[..., :1], (f[..., :1] - f[..., 1:]) * sign], dim=-1)

    whole, *changes = estimates(measured.columns, figures, seed=seed)
    names = [layout.edge_name(row, column) for row, column in [*inside, *outside]]
    found = list(zip(names, changes, strict=True))
    falls = sorted(found[: len(inside)], key=lambda item: -item[1].value)
    return Minimality(whole, dict(falls), dict(found[len(inside) :]), epsilon)
