"""A circuit of nodes, or of their units: dimensions of heads and neurons of MLPs.

What it leaves out is replaced where it writes, so in the same way for all that reads it. Whole
nodes are an edge circuit with every edge out of the nodes kept and none out of the others
(`edges`). What enters the model is its data and no component: `inputs_only` and `select_nodes` keep
`input`, and sizes do not count it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import StrictFloat
from torch import Tensor

from circuits.errors import CircuitsError, error_context
from circuits.graph.circuit import Circuit, once, with_choice
from circuits.graph.findings import RankingChoice
from circuits.graph.layout import Layout
from circuits.graph.network import add_edges, add_units, network
from circuits.graph.provenance import Provenance
from circuits.graph.units import Units
from circuits.options.choices import Level
from circuits.runtime.display import Shown
from circuits.runtime.result_file import Record, ResultFile

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd


class UnitEntry(Record):
    """A node, or a unit of one, of a circuit's file, with the score that it was chosen by."""

    unit: str
    score: StrictFloat | None = None


class NodeCircuitFile(ResultFile):
    """A circuit of nodes or of their units, as its file holds it."""

    KIND: ClassVar[str] = "node-circuit"

    layout: Layout
    widths: tuple[int, ...]
    units: tuple[UnitEntry, ...]
    provenance: Provenance


@dataclass(frozen=True, repr=False)
class NodeCircuit(Shown):
    """Nodes or neurons kept; everything else is ablated when the circuit runs.

    Attributes:
        units: what can be kept: nodes as wholes, or heads by dimension and MLPs by neuron.
        mask: True for the units kept.
        scores: the scores that they were chosen by, where there were any.
        provenance: what it was made from, and how it was chosen.
    """

    units: Units
    mask: Bool[Tensor, " unit"]
    scores: Float[Tensor, " unit"] | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if len(self.mask) != len(self.units):
            raise CircuitsError(
                f"a circuit of {len(self.mask)} units for sources of {len(self.units)} together"
            )

    @classmethod
    def inputs_only(cls, units: Units) -> NodeCircuit:
        """What enters the model, and no node.

        Args:
            units: what can be kept.

        Returns:
            The circuit of the inputs alone.
        """
        return cls(units, units.roots.clone())

    @classmethod
    def of(cls, units: Units | Layout, names: Iterable[str]) -> NodeCircuit:
        """The named nodes and units, and nothing else; `input` is one to name.

        Args:
            units: what can be kept; of a layout, nodes are taken whole.
            names: nodes ("m3") and units ("m3[17]").

        Returns:
            The circuit of these.

        Raises:
            CircuitsError: for an unknown name.
        """
        units = Units.of_nodes(units) if isinstance(units, Layout) else units
        mask = torch.zeros(len(units), dtype=torch.bool)
        for name in names:
            mask[units.find(name)] = True
        return cls(units, mask)

    def _facts(self) -> dict[str, str]:
        return {
            f"{self.level}s": f"{len(self)} of {len(self.candidates)} ({self.fraction:.2%})",
            "model": self.layout.summary,
        }

    def to_frame(self) -> pd.DataFrame:
        """The nodes (neurons) kept.

        Returns:
            Columns name, score (NaN where the circuit was not chosen by scores), the largest
            |score| first.
        """
        import pandas as pd

        rows = self.mask.nonzero().flatten().tolist()
        scores = [math.nan if self.scores is None else float(self.scores[row]) for row in rows]
        frame = pd.DataFrame({"name": self.names, "score": scores})
        return frame.sort_values("score", key=abs, ascending=False, ignore_index=True)

    def __len__(self) -> int:
        return int(self.mask[self.candidates].sum())

    @property
    def layout(self) -> Layout:
        """The model's graph."""
        return self.units.layout

    @property
    def level(self) -> Level:
        """What it is made of: "node" or "neuron"."""
        return self.units.level

    @property
    def fraction(self) -> float:
        """Units kept as a share of all, what enters the model not counted."""
        return len(self) / len(self.candidates)

    @cached_property
    def candidates(self) -> Int[Tensor, " choice"]:
        """Places of all that a circuit of this model can be made of."""
        return (~self.units.roots).nonzero().flatten()

    def with_only(self, indices: Int[Tensor, " chosen"]) -> NodeCircuit:
        """A circuit of other units, and what enters the model.

        Args:
            indices: indices among `candidates`.

        Returns:
            The circuit of these alone.
        """
        mask = self.units.roots.clone()
        mask[indices] = True
        return replace(self, mask=mask, scores=None, provenance=Provenance())

    def candidate_name(self, index: int) -> str:
        """The name of a unit.

        Args:
            index: one of `candidates`.

        Returns:
            Its name.
        """
        return self.units.name(index)

    def with_all(self) -> NodeCircuit:
        """All that there is: the model itself."""
        return self.with_only(self.candidates)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the units kept, in the model's order."""
        return tuple(map(self.units.name, self.mask.nonzero().flatten().tolist()))

    @property
    def nodes(self) -> tuple[str, ...]:
        """Sources of which any unit is kept, in the model's order, and `logits`."""
        parts = self.mask.split(list(self.units.widths))
        named_parts = zip(self.layout.sources, parts, strict=True)
        return (*(name for name, part in named_parts if part.any()), "logits")

    def pruned(self) -> NodeCircuit:
        """Itself: every node reads what enters the model, and the logits read every node."""
        return self

    def edges(self) -> Circuit:
        """The same circuit in edges: all that leave the nodes kept. Parts of nodes have none.

        Where norms rescale the stream itself (BART) an edge takes its share through each run's own
        norms, and the two are not the same.

        Raises:
            CircuitsError: a node is kept in part, which no edge can be.
        """
        parts = self.mask.split(list(self.units.widths))
        for name, part in zip(self.layout.sources, parts, strict=True):
            if bool(part.any()) != bool(part.all()):
                raise CircuitsError(f"{name} is kept in part; edges leave whole nodes")
        rows = torch.stack([part.all() for part in parts])
        return Circuit(self.layout, self.layout.mask & rows[:, None], provenance=self.provenance)

    def to_networkx(self) -> nx.MultiDiGraph:
        """The nodes kept, whole or in part, and every edge between them, as each reads all before
        it; the units kept of nodes that are apart, with their scores (`graph/network.py`).
        """
        layout, nodes, scores = self.layout, set(self.nodes), self.scores
        totals = {}
        if scores is not None:
            parts = scores.where(self.mask, 0.0).split(list(self.units.widths))
            totals = dict(zip(layout.sources, (float(part.sum()) for part in parts), strict=True))
        graph = network(layout, nodes, totals)
        inside = [name in nodes for name in layout.sources]
        ends = [[row for row in rows if inside[row]] for rows in layout.feeds]
        read = [bool(ends[column] or column == layout.logits_column) for column in range(len(ends))]
        pairs = layout.mask.nonzero().tolist()
        edges = [(row, column) for row, column in pairs if inside[row] and read[column]]
        add_edges(graph, layout, edges, ends.__getitem__, None)
        kept_units = self.mask.nonzero().flatten().tolist()
        add_units(
            graph,
            self.units.parts(
                (unit, None if scores is None else float(scores[unit])) for unit in kept_units
            ),
        )
        return graph

    def chosen_by(self, choice: RankingChoice) -> NodeCircuit:
        """The same circuit, whose provenance says how its ranking was chosen.

        Args:
            choice: what `circuits.choose_ranking` gave.

        Returns:
            The circuit with that choice.
        """
        return replace(self, provenance=with_choice(self.provenance, choice))

    def save(self, path: str | Path) -> None:
        """Write the circuit as JSON: layout, units with their scores, and provenance.

        Args:
            path: the file.
        """
        indices, scores = self.mask.nonzero().flatten().tolist(), self.scores
        entries = (
            UnitEntry(unit=name, score=None if scores is None else float(scores[index]))
            for index, name in zip(indices, self.names, strict=True)
        )
        NodeCircuitFile(
            layout=self.layout,
            widths=self.units.widths,
            units=tuple(entries),
            provenance=self.provenance,
        ).save(path)

    @classmethod
    def load(cls, path: str | Path) -> NodeCircuit:
        """Read what `save` wrote.

        Args:
            path: the file.

        Returns:
            The circuit.

        Raises:
            CircuitsError: naming the file, and the unit if there is one at fault.
        """
        file = NodeCircuitFile.load(path)
        with error_context(str(path)):
            units = Units(file.layout, file.widths)
            unit_scores = once("unit", ((entry.unit, entry.score) for entry in file.units))
            circuit = replace(cls.of(units, unit_scores), provenance=file.provenance)
        if not unit_scores or None in unit_scores.values():
            return circuit
        scores = torch.zeros(len(units))
        for name, score in unit_scores.items():
            scores[units.find(name)] = score or 0.0
        return replace(circuit, scores=scores)
