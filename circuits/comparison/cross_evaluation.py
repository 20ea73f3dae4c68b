"""Every checkpoint's circuit run on every other checkpoint.

f of circuit j in model i says whether the edges that carry the task in checkpoint j carry it in
checkpoint i too. The diagonal is each checkpoint's own circuit, faithfulness by training step; the
last column, the final circuit in earlier models, says since when those edges have been doing the
work. f is relative to each model's own clean and corrupted metric, which are reported beside it:
where those hardly differ, f says little, however large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from circuits.comparison.crossed import Crossed
from circuits.errors import CircuitsError, UndefinedMetricError
from circuits.evaluation.measure import measure
from circuits.graph import Circuit
from circuits.graph.controls import random_circuit
from circuits.graph.provenance import DataRecord
from circuits.models import HookedModel
from circuits.models.steps import training_steps
from circuits.options.run import RunOptions
from circuits.provenance import describe_pairs
from circuits.runtime.display import Plotted
from circuits.runtime.result_file import MaybeUndefined, ResultFile
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate
from tasks.pairs import PairSet

if TYPE_CHECKING:
    import pandas as pd


Loader = Callable[[], HookedModel]


@dataclass(frozen=True)
class Row:
    """One model under every circuit.

    Attributes:
        model: its name.
        clean: mean metric of the whole model on clean prompts; NaN where f is undefined.
        corrupted: the same on corrupted prompts.
        f: faithfulness of each circuit in this model, in the order of the circuits; empty where it
            is undefined.
        behind: f of the model's own circuit minus f of each circuit, paired by example; None where
            the model has no circuit of its own.
        control: f of a random circuit of as many edges as the last circuit has.
        undefined: why there is no f, where the clean and the corrupted metric are equal.
    """

    model: str
    clean: MaybeUndefined
    corrupted: MaybeUndefined
    f: tuple[Estimate, ...] = ()
    behind: tuple[Estimate, ...] | None = None
    control: Estimate | None = None
    undefined: str | None = None


class CrossEvaluation(Plotted, ResultFile):
    """The faithfulness of every circuit in every model: cross_evaluation.json.

    Attributes:
        metric: which metric f is a share of.
        data: which examples f was measured on.
        pairs: fingerprint of each example.
        n: their number.
        circuits: names of the circuits, in order.
        sizes: edges of each circuit.
        rows: of each model.
    """

    KIND: ClassVar[str] = "cross_evaluation"

    metric: str
    data: DataRecord
    pairs: tuple[str, ...]
    n: int
    circuits: tuple[str, ...]
    sizes: tuple[int, ...]
    rows: tuple[Row, ...]

    def _facts(self) -> dict[str, str]:
        return {
            "circuits": ", ".join(self.circuits),
            "models": ", ".join(self.models),
            "metric": f"{self.metric}, {self.n} examples",
        }

    def to_frame(self) -> pd.DataFrame:
        """Faithfulness of every circuit in every model, a row each.

        Returns:
            Columns model, circuit, f, low, high; NaN where f is undefined.
        """
        import pandas as pd

        rows = [(row.model, name, row.f[i] if row.f else None) for row in self.rows
                for i, name in enumerate(self.circuits)]  # fmt: skip
        return pd.DataFrame(
            {
                "model": model,
                "circuit": name,
                "f": math.nan if f is None else f.value,
                "low": math.nan if f is None else f.low,
                "high": math.nan if f is None else f.high,
            }
            for model, name, f in rows
        )

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in order."""
        return tuple(row.model for row in self.rows)

    @property
    def training_steps(self) -> list[int] | None:
        """Training step of each model; None where a name does not tell it."""
        return training_steps(self.models)

    def f(self, model: str, circuit: str) -> Estimate | None:
        """Faithfulness of one circuit in one model.

        Args:
            model: name of the model.
            circuit: name of the circuit.

        Returns:
            f with its 95 % interval; None where it is undefined.

        Raises:
            CircuitsError: for a name that was not cross-evaluated.
        """
        for name, names in ((model, self.models), (circuit, self.circuits)):
            if name not in names:
                raise CircuitsError(f"{name} was not cross-evaluated; known: {', '.join(names)}")
        row = self.rows[self.models.index(model)]
        return row.f[self.circuits.index(circuit)] if row.f else None

    def own(self, model: str) -> Estimate | None:
        """Faithfulness of a model's own circuit.

        Args:
            model: its name.

        Returns:
            f; None where it has no circuit or f is undefined.
        """
        return self.f(model, model) if model in self.circuits else None


def cross_evaluate(
    models: Mapping[str, HookedModel | Loader],
    circuits: Mapping[str, Circuit],
    pairs: PairSet,
    *,
    metric: str | None = None,
    n_resamples: int = 1000,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> CrossEvaluation:
    """Run every circuit on every model, on the same pairs.

    Args:
        models: by name. A function that loads a model is called when its turn comes, and the model
            is dropped before the next one, so that memory holds one.
        circuits: by name. A circuit and a model of the same name belong together.
        pairs: examples that the circuits were not chosen on.
        metric: None takes that of the pairs.
        n_resamples: bootstrap resamples of the examples, for BCa intervals.
        options: batch size, seed and progress.
        resume: keeps what was measured until all is done.

    Returns:
        f of every circuit in every model: the share of the model's own difference between the clean
        and the corrupted metric that the circuit recovers; 1 is the whole model.

    Raises:
        CircuitsError: without models or circuits; for a circuit of another shape than a model.
    """
    if not models or not circuits:
        raise CircuitsError(f"{len(models)} models and {len(circuits)} circuits to cross-evaluate")
    options = options or RunOptions()
    names = tuple(circuits)
    control = random_circuit(circuits[names[-1]], seed=options.seed)
    rows = []
    judged = metric or pairs.metric
    for name, model in models.items():
        loaded = model if isinstance(model, HookedModel) else model()
        _require_fit(name, loaded, circuits)
        own_index = names.index(name) if name in names else None
        try:
            measured = measure(
                loaded,
                pairs,
                [*circuits.values(), control],
                metric=metric,
                options=options,
                progress=f"circuits in {name}" if options.progress else None,
                resume=resume,
            )
            crossed = Crossed.of(measured, own_index, n_resamples=n_resamples, seed=options.seed)
            judged = measured.metric
        except UndefinedMetricError as error:
            crossed = Crossed.without(error)
        finally:
            del loaded
        rows.append(Row(name, **vars(crossed)))
    return CrossEvaluation(
        metric=judged,
        data=describe_pairs(pairs),
        pairs=tuple(pairs.fingerprints),
        n=len(pairs),
        circuits=names,
        sizes=tuple(len(circuit) for circuit in circuits.values()),
        rows=tuple(rows),
    )


def _require_fit(name: str, model: HookedModel, circuits: Mapping[str, Circuit]) -> None:
    for circuit_name, circuit in circuits.items():
        if circuit.layout != model.layout:
            raise CircuitsError(
                f"the circuit of {circuit_name} does not fit the model {name}: "
                f"{circuit.layout.summary} ({circuit.layout.shape[0]} x {circuit.layout.shape[1]}) "
                f"and {model.layout.summary} ({model.layout.shape[0]} x {model.layout.shape[1]})"
            )
