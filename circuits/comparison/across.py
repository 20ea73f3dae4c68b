"""Circuits of one model held against each other: of several methods, corruptions or tasks.

f of circuit j on pairs i says how much of behaviour i the edges that were found for j carry. Where
circuits are of one task by several methods, or under several corruptions, all pairs ask for the
same behaviour; where they are of several tasks, f off the diagonal is what these share. A circuit
that keeps all may do well everywhere: sizes, and a random circuit of the same size, stand beside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from circuits.comparison.crossed import Crossed
from circuits.errors import CircuitsError, UndefinedMetricError
from circuits.evaluation.draws import jaccard
from circuits.evaluation.measure import measure
from circuits.graph import AnyCircuit
from circuits.graph.controls import random_circuit
from circuits.graph.provenance import DataRecord
from circuits.models import HookedModel
from circuits.options.choices import Ablation
from circuits.options.run import RunOptions
from circuits.provenance import describe_pairs
from circuits.runtime.display import Displayed
from circuits.runtime.result_file import MaybeUndefined, Record, ResultFile
from circuits.statistics.estimate import Estimate
from tasks.pairs import PairSet

if TYPE_CHECKING:
    import pandas as pd


class TaskRow(Record):
    """Every circuit on one set of pairs.

    name: of the pairs. data: which they are. metric: what f is a share of.
    clean, corrupted: its means over the whole model's runs; NaN where f is undefined.
    f: of each circuit, in their order; empty where it is undefined.
    behind: f of the circuit of the same name less f of each, paired by example; None where there is
        no such circuit.
    control: f of a random circuit of that circuit's size, or of the first one's.
    undefined: why there is no f.
    """

    name: str
    data: DataRecord
    metric: str
    clean: MaybeUndefined
    corrupted: MaybeUndefined
    f: tuple[Estimate, ...] = ()
    behind: tuple[Estimate, ...] | None = None
    control: Estimate | None = None
    undefined: str | None = None


class CrossTasks(Displayed, ResultFile):
    """`cross_tasks.json`: the faithfulness of every circuit on every set of pairs, one model.

    Attributes:
        circuits: names of the circuits, in order.
        sizes: edges (nodes, neurons) of each.
        jaccard: what each two share of what either has, in the order of the circuits.
        rows: of each set of pairs.
    """

    KIND: ClassVar[str] = "cross-tasks"

    circuits: tuple[str, ...]
    sizes: tuple[int, ...]
    jaccard: tuple[tuple[float, ...], ...]
    rows: tuple[TaskRow, ...]

    def _facts(self) -> dict[str, str]:
        return {
            "circuits": ", ".join(self.circuits),
            "on pairs of": ", ".join(row.name for row in self.rows),
        }

    def to_frame(self) -> pd.DataFrame:
        """Faithfulness of every circuit on all pairs, a row each.

        Returns:
            Columns pairs, circuit, f, low, high; NaN where f is undefined.
        """
        import pandas as pd

        nothing = Estimate(math.nan, math.nan, math.nan, 0)
        cells = [
            (row.name, name, row.f[index] if row.f else nothing)
            for row in self.rows
            for index, name in enumerate(self.circuits)
        ]
        return pd.DataFrame(
            {"pairs": pairs, "circuit": name, "f": f.value, "low": f.low, "high": f.high}
            for pairs, name, f in cells
        )

    def lines(self) -> list[str]:
        """The result as text: a line for each set of pairs, then what circuits share."""
        lines = [f"circuits: {', '.join(map(_sized, self.circuits, self.sizes))}"]
        for row in self.rows:
            if row.undefined is not None:
                lines.append(f"{row.name}: {row.undefined}")
                continue
            values = (f"{name} {f}" for name, f in zip(self.circuits, row.f, strict=True))
            lines.append(f"f on {row.name}: {'; '.join(values)}; random {row.control}")
        for index, name in enumerate(self.circuits):
            for other in range(index + 1, len(self.circuits)):
                shared = self.jaccard[index][other]
                lines.append(f"Jaccard of {name} and {self.circuits[other]}: {shared:.2f}")
        return lines


def cross_tasks(
    model: HookedModel,
    circuits: Mapping[str, AnyCircuit],
    pairs: Mapping[str, PairSet],
    *,
    ablation: Ablation = "corrupted",
    n_resamples: int = 1000,
    options: RunOptions | None = None,
) -> CrossTasks:
    """Run every circuit on every set of pairs.

    Args:
        model: that all circuits are of.
        circuits: by name: of a task, a corruption, a method.
        pairs: by name, that no circuit was chosen on; a circuit and pairs of the same name belong
            together. Each set is judged by its own metric.
        ablation: what stands in for what is left out.
        n_resamples: bootstrap resamples of the examples, for BCa intervals.
        options: batch size, seed and progress.

    Returns:
        f of every circuit on all pairs, beside a random circuit's.

    Raises:
        CircuitsError: without circuits or pairs, for circuits of several levels, and for one of
            another shape than the model.
    """
    if not circuits or not pairs:
        raise CircuitsError(f"{len(circuits)} circuits and {len(pairs)} sets of pairs to compare")
    options, names = options or RunOptions(), tuple(circuits)
    if len({circuit.level for circuit in circuits.values()}) > 1:
        raise CircuitsError("circuits of edges, of nodes and of neurons are not compared")
    rows = []
    for name, pair_set in pairs.items():
        own_index = names.index(name) if name in names else None
        control = random_circuit(circuits[names[own_index or 0]], seed=options.seed)
        judged = pair_set.metric
        try:
            measured = measure(
                model,
                pair_set,
                [*circuits.values(), control],
                ablation=ablation,
                options=options,
                progress=f"circuits on {name}" if options.progress else None,
            )
            crossed = Crossed.of(measured, own_index, n_resamples=n_resamples, seed=options.seed)
            judged = measured.metric
        except UndefinedMetricError as error:
            crossed = Crossed.without(error)
        rows.append(
            TaskRow(name=name, data=describe_pairs(pair_set), metric=judged, **vars(crossed))
        )
    return CrossTasks(
        circuits=names,
        sizes=tuple(len(circuit) for circuit in circuits.values()),
        jaccard=tuple(
            tuple(
                jaccard(circuit.mask.flatten(), other.mask.flatten()) for other in circuits.values()
            )
            for circuit in circuits.values()
        ),
        rows=tuple(rows),
    )


def _sized(name: str, size: int) -> str:
    return f"{name} ({size})"
