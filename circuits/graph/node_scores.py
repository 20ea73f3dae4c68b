"""Scores of nodes and of neurons, and the two files that hold them.

Score of a node = (clean - corrupted) output . gradient of the metric at that output, by all paths
from it: the first-order estimate of how much the metric falls when the whole node is corrupted.
Positive: it supports the behaviour. Units are the metric's. A node's units are the dimensions of a
head's z (what its output matrix reads) and the hidden neurons of an MLP; their scores add up to the
node's, but for MLPs with a norm behind them (Gemma 2 and 3, OLMo 2), where the norm's own
derivative comes in between. The score of a set is the mean over its examples.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError, error_context
from circuits.graph.blocks import Blocks
from circuits.graph.layout import Layout
from circuits.graph.network import add_units, network
from circuits.graph.provenance import Provenance
from circuits.graph.score_files import NodeScoresFile, read_scores, write_scores
from circuits.graph.units import Units
from circuits.runtime.display import Displayed

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

FILES = ("node_scores", "neuron_scores")
"""What the files are called, without their endings."""


@dataclass(frozen=True, repr=False)
class NodeScores(Displayed):
    """One score for each unit of each source, sources in the layout's order.

    values: float32, units of a source side by side.
    widths: how many units each source has; all 1 when nodes were scored as wholes.
    per_example: the same for each example, in the order of the pair set, when kept.
    method, provenance, blocks: as in `EdgeScores`.
    """

    values: Float[Tensor, " unit"]
    layout: Layout
    widths: tuple[int, ...]
    method: str
    provenance: Provenance = field(default_factory=Provenance)
    per_example: Float[Tensor, "example unit"] | None = None
    blocks: Blocks | None = None

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.units),):
            raise CircuitsError(
                f"{self.values.numel()} scores for sources of {len(self.units)} units together"
            )
        if not torch.isfinite(self.values).all():
            bad = int((~torch.isfinite(self.values)).nonzero()[0])
            raise CircuitsError(f"the score of {self.units.name(bad)} is not finite")

    def __getitem__(self, name: str) -> float:
        """The score of a source ("m3", its units together) or of a unit ("m3[17]")."""
        return float(self.values[self.units.find(name)].sum())

    def _facts(self) -> dict[str, str]:
        data = self.provenance.data
        return {
            f"{self.units.level}s": f"{len(self.units)} of {self.layout.summary}",
            "method": self.method,
            "examples": "unknown" if data is None else f"{data.n} of {data.task}",
        }

    def to_frame(self) -> pd.DataFrame:
        """Every node (neuron) with its score.

        Returns:
            Columns name, score (in the metric's units), the largest |score| first.
        """
        import pandas as pd

        return pd.DataFrame(self.top(len(self.units)), columns=["name", "score"])

    @cached_property
    def units(self) -> Units:
        """Names of the units, and where they stand."""
        return Units(self.layout, self.widths)

    @property
    def nodes(self) -> Float[Tensor, " source"]:
        """Scores of whole sources: of each, its units together."""
        return torch.stack([part.sum() for part in self.values.split(list(self.widths))])

    def top(self, n: int = 10) -> list[tuple[str, float]]:
        """The nodes (or neurons) with the largest scores by size.

        Args:
            n: how many.

        Returns:
            Names and scores, largest absolute value first.
        """
        order = torch.argsort(self.values.abs(), descending=True, stable=True)[:n]
        return [(self.units.name(index), float(self.values[index])) for index in order.tolist()]

    def to_networkx(self) -> nx.MultiDiGraph:
        """All nodes, and neurons where they were scored, with their scores; no edges but those from
        neurons to their nodes (`graph/network.py`).
        """
        totals = dict(zip(self.layout.sources, self.nodes.tolist(), strict=True))
        graph = network(self.layout, self.layout.nodes, totals)
        scores = self.values.tolist()
        add_units(graph, self.units.parts((index, scores[index]) for index in range(len(scores))))
        return graph

    def noting(self, **parts: object) -> NodeScores:
        """The same scores with another provenance.

        Args:
            **parts: fields of `Provenance`, in place of what it holds.

        Returns:
            The scores, which share their tensors with these.
        """
        return replace(self, provenance=self.provenance.extended(**parts))

    def save(self, folder: str | Path, name: str | None = None) -> Path:
        """Write the scores; equal scores give equal bytes.

        Args:
            folder: where to.
            name: of the files, `name.safetensors` and then `name.json`; None takes node_scores or
                neuron_scores, by the level.

        Returns:
            The path of the former.
        """
        path = Path(folder) / f"{name or self.units.level + '_scores'}.safetensors"
        record = NodeScoresFile(
            method=self.method,
            layout=self.layout,
            sources=self.layout.sources,
            widths=self.widths,
            provenance=self.provenance,
        )
        write_scores(path, self.values, self.per_example, record)
        return path

    @classmethod
    def load(cls, path: str | Path) -> NodeScores:
        """Read what `save` wrote.

        Args:
            path: a `.safetensors`, or a folder with scores of nodes, or else of neurons, in it.

        Returns:
            The scores.

        Raises:
            CircuitsError: where a file is missing, damaged, or of another version.
        """
        nodes, neurons = (Path(path) / f"{name}.safetensors" for name in FILES)
        level = "neuron" if neurons.is_file() and not nodes.is_file() else "node"
        path, tensors, record = read_scores(
            path, f"{level}_scores", f"circuits discover --level {level}", NodeScoresFile
        )
        with error_context(str(path)):
            return cls(
                tensors["scores"],
                record.layout,
                record.widths,
                record.method,
                record.provenance,
                tensors.get("per_example"),
            )
