"""A circuit: a set of edges of one model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import StrictFloat
from torch import Tensor

from circuits.errors import CircuitsError, error_context
from circuits.graph.findings import RankingChoice
from circuits.graph.layout import Layout
from circuits.graph.network import add_edges, network
from circuits.graph.provenance import Provenance
from circuits.options.choices import Level
from circuits.runtime.display import Shown
from circuits.runtime.result_file import Record, ResultFile

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd


class EdgeEntry(Record):
    """An edge of a circuit's file, with the score that it was chosen by."""

    edge: str
    score: StrictFloat | None = None


class CircuitFile(ResultFile):
    """A circuit of edges, as its file holds it."""

    KIND: ClassVar[str] = "edge-circuit"

    layout: Layout
    edges: tuple[EdgeEntry, ...]
    provenance: Provenance


@dataclass(frozen=True, repr=False)
class Circuit(Shown):
    """Edges kept; everything else is ablated when the circuit runs.

    Attributes:
        layout: the model's nodes and edges.
        mask: True for the edges kept; (source, reader).
        scores: the scores that the edges were chosen by, where there were any.
        provenance: what it was made from, and how it was chosen.
        level: what it is made of, "edge".
    """

    level: ClassVar[Level] = "edge"

    layout: Layout
    mask: Bool[Tensor, "source reader"]
    scores: Float[Tensor, "source reader"] | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if tuple(self.mask.shape) != self.layout.shape:
            raise CircuitsError(
                f"a circuit of {tuple(self.mask.shape)} for a model of {self.layout.shape} "
                "sources x readers"
            )
        if bool((self.mask & ~self.layout.mask).any()):
            row, column = (self.mask & ~self.layout.mask).nonzero()[0].tolist()
            raise CircuitsError(
                f"{self.layout.edge_name(row, column)} is not an edge of this model"
            )

    @classmethod
    def full(cls, layout: Layout) -> Circuit:
        """Every edge: the model itself.

        Args:
            layout: the model's nodes and edges.

        Returns:
            The circuit of all edges.
        """
        return cls(layout, layout.mask.clone())

    @classmethod
    def empty(cls, layout: Layout) -> Circuit:
        """No edge: the corrupted run.

        Args:
            layout: the model's nodes and edges.

        Returns:
            The circuit of no edge.
        """
        return cls(layout, torch.zeros_like(layout.mask))

    @classmethod
    def of(cls, layout: Layout, edges: Iterable[str]) -> Circuit:
        """The named edges.

        Args:
            layout: the model's nodes and edges.
            edges: names, such as "a0.h3->a5.h1<q>" or "m2->logits".

        Returns:
            The circuit of these edges, not pruned.

        Raises:
            CircuitsError: for an unknown or impossible edge, by its name.
        """
        mask = torch.zeros_like(layout.mask)
        for edge in edges:
            mask[layout.edge(edge)] = True
        return cls(layout, mask)

    def __len__(self) -> int:
        return int(self.mask.sum())

    @property
    def fraction(self) -> float:
        """Edges kept as a share of all the model's edges."""
        return len(self) / self.layout.n_edges

    def _facts(self) -> dict[str, str]:
        selection = self.provenance.selection
        return {
            "edges": f"{len(self)} of {self.layout.n_edges} ({self.fraction:.2%})",
            "nodes": f"{len(self.nodes)}",
            "model": self.layout.summary,
            **(
                {}
                if selection is None
                else {"selected by": f"{selection.strategy}, ranking {selection.ranking}"}
            ),
        }

    def to_frame(self) -> pd.DataFrame:
        """The edges kept.

        Returns:
            Columns source, reader, score (NaN where the circuit was not chosen by scores), the
            largest |score| first.
        """
        import pandas as pd

        scores = [
            math.nan if self.scores is None else float(self.scores[self.layout.edge(name)])
            for name in self.edges
        ]
        named = [(*name.split("->"), score) for name, score in zip(self.edges, scores, strict=True)]
        frame = pd.DataFrame(named, columns=["source", "reader", "score"])
        return frame.sort_values("score", key=abs, ascending=False, ignore_index=True)

    @property
    def edges(self) -> tuple[str, ...]:
        """Names of the edges, in the order of computation of their readers."""
        indices = self.mask.T.nonzero().tolist()
        return tuple(self.layout.edge_name(row, column) for column, row in indices)

    @property
    def candidates(self) -> Int[Tensor, " choice"]:
        """Flat matrix places of all that a circuit of this model can be made of."""
        return self.layout.mask.flatten().nonzero().flatten()

    def with_only(self, indices: Int[Tensor, " chosen"]) -> Circuit:
        """A circuit of the same layout with other edges.

        Args:
            indices: indices among `candidates`.

        Returns:
            The circuit of these edges alone.
        """
        mask = torch.zeros_like(self.mask)
        mask.view(-1)[indices] = True
        return replace(self, mask=mask, scores=None, provenance=Provenance())

    def candidate_name(self, index: int) -> str:
        """The name of an edge.

        Args:
            index: one of `candidates`.

        Returns:
            Its name.
        """
        return self.layout.edge_name(*divmod(index, self.layout.shape[1]))

    def with_all(self) -> Circuit:
        """All that there is: the model itself."""
        return self.with_only(self.candidates)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Ends of the circuit's edges: sources, in the model's order, and `logits`.

        An edge into a reader that several heads share (grouped-query attention) ends at those of
        them that write something; at all of them where none does, as an edge leads nowhere then.
        """
        rows = self.mask.any(dim=1)
        for column in self.mask.any(dim=0).nonzero().flatten().tolist():
            rows[self.ends(column)] = True
        names = [name for row, name in enumerate(self.layout.sources) if rows[row]]
        return (*names, "logits") if self.mask[:, -1].any() else tuple(names)

    def ends(self, column: int) -> list[int]:
        """Rows of the sources at which an edge into a reader ends, as `nodes` counts them.

        Args:
            column: of the reader.

        Returns:
            Rows of the score matrix; none for the logits.
        """
        feeds = list(self.layout.feeds[column])
        return [row for row in feeds if self.mask[row].any()] or feeds

    def pruned(self) -> Circuit:
        """Without the edges that lie on no path from `input` (or `bias`) to `logits`.

        One pass forward and one back reach the fixpoint: an edge stays if and only if its source is
        reached from the input and its reader leads to the logits, and then so do all the edges of
        the path through it.
        """
        layout = self.layout
        in_circuit = self.mask.numpy()  # many steps on few numbers, which torch is slow at
        reached = np.zeros(layout.shape[0], dtype=bool)
        reached[list(layout.roots)] = True
        for column in range(layout.shape[1]):
            if (in_circuit[:, column] & reached).any():
                reached[list(layout.feeds[column])] = True
        leads = np.zeros(layout.shape[1], dtype=bool)
        leads[layout.logits_column] = True
        used = in_circuit[:, layout.logits_column].copy()
        for column in reversed(range(layout.shape[1] - 1)):
            if used[list(layout.feeds[column])].any():
                leads[column] = True
                used |= in_circuit[:, column]
        mask = torch.from_numpy(in_circuit & reached[:, None] & leads[None, :])
        return Circuit(layout, mask, self.scores, self.provenance)

    def to_networkx(self) -> nx.MultiDiGraph:
        """The circuit's nodes and edges with their scores, as `graph/network.py` says; an edge into
        a shared reader is one into each head of `nodes` that it ends at.
        """
        graph = network(self.layout, self.nodes)
        add_edges(graph, self.layout, self.mask.nonzero().tolist(), self.ends, self.scores)
        return graph

    def chosen_by(self, choice: RankingChoice) -> Circuit:
        """The same circuit, whose provenance says how its ranking was chosen.

        Args:
            choice: what `circuits.choose_ranking` gave.

        Returns:
            The circuit with that choice.
        """
        return replace(self, provenance=with_choice(self.provenance, choice))

    def save(self, path: str | Path) -> None:
        """Write the circuit as JSON: layout, edges with their scores, and provenance.

        Args:
            path: the file.
        """
        scores = self.scores
        entries = (
            EdgeEntry(
                edge=name,
                score=None if scores is None else float(scores[self.layout.edge(name)]),
            )
            for name in self.edges
        )
        CircuitFile(layout=self.layout, edges=tuple(entries), provenance=self.provenance).save(path)

    @classmethod
    def load(cls, path: str | Path) -> Circuit:
        """Read what `save` wrote.

        Args:
            path: the file.

        Returns:
            The circuit.

        Raises:
            CircuitsError: naming the file, and the edge if there is one at fault.
        """
        file = CircuitFile.load(path)
        layout = file.layout
        with error_context(str(path)):
            entries = once("edge", ((entry.edge, entry.score) for entry in file.edges))
            indices = {name: layout.edge(name) for name in entries}
        mask = torch.zeros_like(layout.mask)
        scores = torch.zeros(layout.shape)
        for name, score in entries.items():
            mask[indices[name]] = True
            scores[indices[name]] = score or 0.0
        scored = bool(entries) and None not in entries.values()
        return cls(layout, mask, scores if scored else None, file.provenance)


def with_choice(provenance: Provenance, choice: RankingChoice) -> Provenance:
    """A circuit's provenance with how its ranking was chosen; it is one that was selected."""
    assert provenance.selection is not None
    selection = provenance.selection.model_copy(update={"choice": choice})
    return provenance.extended(selection=selection)


def once(kind: str, entries: Iterable[tuple[str, float | None]]) -> dict[str, float | None]:
    """A circuit file's edges or units by name, each with its score, or all without.

    A name that stands twice, a score that is not finite and one that some have and others have not
    are refused by name.
    """
    scores: dict[str, float | None] = {}
    for name, score in entries:
        if name in scores:
            raise CircuitsError(f"{kind} {name} stands twice")
        if score is not None and not math.isfinite(score):
            raise CircuitsError(f"{kind} {name}: its score is not finite")
        if scores and (score is None) != (next(iter(scores.values())) is None):
            without = name if score is None else next(iter(scores))
            raise CircuitsError(
                f"{kind} {without} has no score, where another has one; give all or none"
            )
        scores[name] = score
    return scores
