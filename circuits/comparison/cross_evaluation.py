"""Every checkpoint's circuit run on every other checkpoint.

f of circuit j in model i says whether the edges that carry the task in checkpoint j carry it in
checkpoint i too. The diagonal is each checkpoint's own circuit, faithfulness by training step; the
last column, the final circuit in earlier models, says since when those edges have been doing the
work. f is relative to each model's own clean and corrupted metric, which stand beside it: where
those hardly differ, f says little, however large.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.comparison import words
from circuits.errors import CircuitsError
from circuits.evaluation.measure import measure, shares
from circuits.evaluation.robustness import random_circuit
from circuits.graph import Circuit
from circuits.models import HookedModel
from circuits.models.steps import training_steps
from circuits.provenance import describe_pairs
from circuits.runtime.files import number
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, VanishingMetricError, estimates
from tasks.pairs import PairSet

Loader = Callable[[], HookedModel]


@dataclass(frozen=True)
class Row:
    """One model under every circuit.

    clean, corrupted: the mean metric of the whole model on either prompt.
    f: of each circuit, in the order of the circuits. behind: f of the model's own circuit minus f
        of each, paired by example; None where the model has no circuit of its own.
    control: f of a random circuit of as many edges as the last one.
    undefined: why there is no f, where clean and corrupted metric are equal; f is empty then.
    """

    model: str
    clean: float | None
    corrupted: float | None
    f: tuple[Estimate, ...] = ()
    behind: tuple[Estimate, ...] | None = None
    control: Estimate | None = None
    undefined: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "model": self.model,
            "clean": None if self.clean is None else number(self.clean),
            "corrupted": None if self.corrupted is None else number(self.corrupted),
            "f": [one.to_dict() for one in self.f],
            "behind": None if self.behind is None else [one.to_dict() for one in self.behind],
            "control": None if self.control is None else self.control.to_dict(),
            "undefined": self.undefined,
        }


@dataclass(frozen=True)
class CrossEvaluation:
    """The matrix of f, a row a model, a column a circuit.

    data: which examples f was measured on. edges: of each circuit.
    """

    metric: str
    data: Mapping[str, Any]
    circuits: tuple[str, ...]
    edges: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def n(self) -> int:
        """Examples that f was measured on."""
        return int(self.data["n"])

    def f(self, model: str, circuit: str) -> Estimate | None:
        """f of one circuit in one model; None where it is undefined."""
        models = [row.model for row in self.rows]
        for name, known in ((model, models), (circuit, self.circuits)):
            if name not in known:
                raise CircuitsError(f"{name} was not cross-evaluated; known: {', '.join(known)}")
        row = self.rows[models.index(model)]
        return row.f[self.circuits.index(circuit)] if row.f else None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "metric": self.metric,
            "n": self.n,
            "data": dict(self.data),
            "circuits": list(self.circuits),
            "edges": list(self.edges),
            "steps": training_steps([row.model for row in self.rows]),
            "rows": [row.to_dict() for row in self.rows],
            "paragraph": self.paragraph(),
        }

    def paragraph(self) -> str:
        """The matrix in plain words."""
        return words.cross_evaluation(self)


def cross_evaluate(
    models: Mapping[str, HookedModel | Loader],
    circuits: Mapping[str, Circuit],
    pairs: PairSet,
    *,
    metric: str | None = None,
    batch_size: int | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = False,
    resume: Pieces | None = None,
) -> CrossEvaluation:
    """Run every circuit on every model, on the same pairs.

    models: by name; a function that loads one is called when its turn comes, and the model dropped
        before the next, so that memory holds one.
    pairs: examples that the circuits were not chosen on. A circuit and a model of the same name
        belong together. Intervals are BCa ones over examples.
    unfinished: keeps what was measured until the whole is done.
    Raises CircuitsError for circuits of another shape than a model, with both shapes.
    """
    if not models or not circuits:
        raise CircuitsError(f"{len(models)} models and {len(circuits)} circuits to cross-evaluate")
    names = tuple(circuits)
    control = random_circuit(circuits[names[-1]], seed=seed)
    rows = []
    judged = metric or pairs.metric
    for name, model in models.items():
        loaded = model if isinstance(model, HookedModel) else model()
        _require_fit(name, loaded, circuits)
        own = names.index(name) if name in names else None
        try:
            measured = measure(
                loaded,
                pairs,
                [*circuits.values(), control],
                metric=metric,
                batch_size=batch_size,
                progress=f"circuits in {name}" if progress else None,
                resume=resume,
            )
            found = estimates(
                measured.columns, _with_losses(own), n_resamples=n_resamples, seed=seed
            )
        except VanishingMetricError as error:
            rows.append(Row(name, None, None, undefined=str(error)))
            continue
        finally:
            del loaded
        count = len(names)
        rows.append(
            Row(
                name,
                float(measured.clean.mean()),
                float(measured.corrupted.mean()),
                tuple(found[:count]),
                tuple(found[count + 1 :]) if own is not None else None,
                found[count],
            )
        )
        judged = measured.metric
    edges = tuple(len(circuit) for circuit in circuits.values())
    data = {**describe_pairs(pairs), "pairs": pairs.fingerprints}
    return CrossEvaluation(judged, data, names, edges, tuple(rows))


def _with_losses(
    own: int | None,
) -> Callable[[Float[Tensor, "*resample column"]], Float[Tensor, "*resample k"]]:
    """f of each circuit and of the control, then how far each falls behind the own one."""

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample k"]:
        f = shares(means)
        if own is None:
            return f
        return torch.cat([f, f[..., own : own + 1] - f[..., :-1]], dim=-1)

    return figures


def _require_fit(name: str, model: HookedModel, circuits: Mapping[str, Circuit]) -> None:
    for circuit, one in circuits.items():
        if one.layout != model.layout:
            raise CircuitsError(
                f"the circuit of {circuit} does not fit the model {name}: {one.layout.summary} "
                f"({one.layout.shape[0]} x {one.layout.shape[1]}) and {model.layout.summary} "
                f"({model.layout.shape[0]} x {model.layout.shape[1]})"
            )
