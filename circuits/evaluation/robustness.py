"""Does the circuit hold elsewhere? f of the same circuit on other prompts.

Each condition is a pair set: other examples, another corruption or template of the task, or the
same prompts perturbed (`perturbations`). The control is a random circuit of as many edges (nodes,
neurons), on the same prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from circuits.errors import UndefinedMetricError
from circuits.evaluation.measure import measure, shares
from circuits.graph import AnyCircuit, Provenance
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairSet

Kind = TypeVar("Kind", bound=AnyCircuit)


@dataclass(frozen=True)
class Condition:
    """f of the circuit and of the control under one condition.

    undefined: why there is no f, where clean and corrupted metric are equal.
    """

    metric: str
    circuit: Estimate | None
    control: Estimate | None
    metric_clean: float | None = None
    metric_corrupted: float | None = None
    undefined: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "metric": self.metric,
            "circuit": None if self.circuit is None else self.circuit.to_dict(),
            "control": None if self.control is None else self.control.to_dict(),
            "metric_clean": self.metric_clean,
            "metric_corrupted": self.metric_corrupted,
            "undefined": self.undefined,
        }


def robustness(
    model: HookedModel,
    circuit: AnyCircuit,
    conditions: Mapping[str, PairSet],
    *,
    metric: str | None = None,
    ablation: str | MeanActivations = "corrupted",
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
    resume: Pieces | None = None,
) -> dict[str, Condition]:
    """f of the circuit under each named condition; metric None takes each pair set's own."""
    control = random_circuit(circuit, seed=seed)
    found = {}
    for name, pairs in conditions.items():
        try:
            measured = measure(
                model,
                pairs,
                [circuit, control],
                metric=metric,
                ablation=ablation,
                batch_size=batch_size,
                progress=f"robustness ({name})" if progress else None,
                resume=resume,
            )
            kept, random = estimates(measured.columns, shares, seed=seed)
        except UndefinedMetricError as error:
            found[name] = Condition(metric or pairs.metric, None, None, undefined=str(error))
            continue
        found[name] = Condition(
            measured.metric,
            kept,
            random,
            float(measured.clean.mean()),
            float(measured.corrupted.mean()),
        )
    return found


def random_circuit(circuit: Kind, *, seed: int) -> Kind:
    """As many random edges (nodes, neurons) of the same model, unpruned: a control."""
    places = circuit.candidates
    shuffled = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))]
    mask = circuit.with_only(shuffled[: len(circuit)]).mask
    return replace(circuit, mask=mask, scores=None, provenance=Provenance())
