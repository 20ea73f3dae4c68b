"""Edge scores, and the two files that hold them.

Score of an edge = (clean - corrupted) source output . gradient of the metric at the reader's input:
the first-order estimate of how much the metric falls when the edge is corrupted. Positive: the edge
supports the behaviour. Units are the metric's. The score of a set is the mean over its examples.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.errors import CircuitsError, error_context
from circuits.graph.blocks import Blocks
from circuits.graph.layout import Layout
from circuits.graph.network import add_edges, network
from circuits.graph.provenance import Provenance
from circuits.graph.score_files import EdgeScoresFile, read_scores, write_scores
from circuits.runtime.display import Plotted

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd


@dataclass(frozen=True, repr=False)
class EdgeScores(Plotted):
    """One score for each edge, in the metric's units; positive: it supports the behaviour.

    Attributes:
        layout: the model's nodes and edges.
        matrix: float32, (source, reader); impossible edges are 0.
        method: the attribution method's name.
        per_example: the same for each example, in the order of the pair set, when kept.
        provenance: every hyper-parameter, the seed, versions, fingerprints of model and data.
        blocks: sums over blocks of the examples, where single ones were not kept; in no file.
        drawn: the places in `per_example` that these are the scores of, some perhaps several times;
            None for all of them. In no file.
    """

    matrix: Float[Tensor, "source reader"]
    layout: Layout
    method: str
    provenance: Provenance = field(default_factory=Provenance)
    per_example: Float[Tensor, "example source reader"] | None = None
    blocks: Blocks | None = None
    drawn: Int[Tensor, " drawn"] | None = None

    def __post_init__(self) -> None:
        if tuple(self.matrix.shape) != self.layout.shape:
            raise CircuitsError(
                f"a score matrix of {tuple(self.matrix.shape)} for a model of {self.layout.shape} "
                "sources x readers"
            )
        if not torch.isfinite(self.matrix).all():
            row, column = (~torch.isfinite(self.matrix)).nonzero()[0].tolist()
            raise CircuitsError(f"the score of {self.layout.edge_name(row, column)} is not finite")

    def __getitem__(self, edge: str) -> float:
        return float(self.matrix[self.layout.edge(edge)])

    @property
    def mask(self) -> Bool[Tensor, "source reader"]:
        """True where an edge exists."""
        return self.layout.mask

    def _facts(self) -> dict[str, str]:
        data = self.provenance.data
        detail = "their mean alone" if self.per_example is None else "each example's kept"
        return {
            "edges": f"{self.layout.n_edges} of {self.layout.summary}",
            "method": self.method,
            "examples": "unknown" if data is None else f"{data.n} of {data.task}, {detail}",
        }

    def to_frame(self) -> pd.DataFrame:
        """Every edge with its score.

        Returns:
            Columns source, reader, score (in the metric's units; above 0 it supports the
            behaviour), the largest |score| first.
        """
        import pandas as pd

        named = [(*name.split("->"), score) for name, score in self.top(self.layout.n_edges)]
        return pd.DataFrame(named, columns=["source", "reader", "score"])

    @cached_property
    def orders(self) -> dict[tuple[object, ...], Int[Tensor, " edge"]]:
        """Orders of the edges made so far (`circuits.graph.orders`), by what they depend on."""
        return {}

    def top(self, n: int = 10) -> list[tuple[str, float]]:
        """The edges with the largest scores by size.

        Args:
            n: how many.

        Returns:
            Names and scores, largest absolute value first.
        """
        values = self.matrix.abs().masked_fill(~self.mask, -1.0).flatten()
        indices = torch.argsort(values, descending=True, stable=True)[: min(n, self.layout.n_edges)]
        width = self.layout.shape[1]
        return [
            (
                self.layout.edge_name(index // width, index % width),
                float(self.matrix.flatten()[index]),
            )
            for index in indices.tolist()
        ]

    def to_networkx(self) -> nx.MultiDiGraph:
        """All nodes and edges of the model with their scores, as `graph/network.py` says."""
        graph = network(self.layout, self.layout.nodes)
        edges = self.mask.nonzero().tolist()
        add_edges(graph, self.layout, edges, self.layout.feeds.__getitem__, self.matrix)
        return graph

    def noting(self, **parts: object) -> EdgeScores:
        """The same scores with another provenance.

        Args:
            **parts: fields of `Provenance`, in place of what it holds.

        Returns:
            The scores, which share their tensors with these.
        """
        return replace(self, provenance=self.provenance.extended(**parts))

    def save(self, folder: str | Path, name: str = "scores") -> Path:
        """Write the scores; equal scores give equal bytes.

        Args:
            folder: where to.
            name: of the files, `name.safetensors` and then `name.json`.

        Returns:
            The path of the former.
        """
        path = Path(folder) / f"{name}.safetensors"
        record = EdgeScoresFile(
            method=self.method,
            layout=self.layout,
            sources=self.layout.sources,
            readers=self.layout.readers,
            provenance=self.provenance,
        )
        write_scores(path, self.matrix, self.per_example, record)
        return path

    @classmethod
    def load(cls, path: str | Path) -> EdgeScores:
        """Read what `save` wrote.

        Args:
            path: a `.safetensors`, or a folder with `scores.safetensors` in it.

        Returns:
            The scores.

        Raises:
            CircuitsError: where a file is missing, damaged, or of another version.
        """
        path, tensors, record = read_scores(path, "scores", "circuits discover", EdgeScoresFile)
        layout = record.layout
        if record.readers != layout.readers:
            raise CircuitsError(f"{path}: its names do not match its layout ({layout.summary})")
        with error_context(str(path)):
            return cls(
                tensors["scores"],
                layout,
                record.method,
                record.provenance,
                tensors.get("per_example"),
            )
