"""What `compare` found, as the objects that comparison.json holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from circuits.comparison.changes import Changes
from circuits.comparison.circuit_similarity import (
    CircuitSimilarity,
    SampleCounts,
    SimilarityEstimate,
)
from circuits.comparison.trajectory import Trajectory
from circuits.comparison.variance import VarianceDecomposition
from circuits.errors import CircuitsError
from circuits.graph import Layout
from circuits.graph.provenance import DataRecord
from circuits.models.steps import training_steps
from circuits.runtime.display import Plotted
from circuits.runtime.result_file import ResultFile

if TYPE_CHECKING:
    import pandas as pd


TOP = 50
"""Edges in comparison.json, besides all others that changed."""


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints on the same examples.

    Attributes:
        before: name of the earlier checkpoint.
        after: name of the later one.
        identical: no score of any example differs beyond rounding.
        edges: changes of the edges' mean scores.
        node_strengths: changes of each node's sum of |mean score| over its outgoing edges.
        node_totals: changes of each node's signed sum of scores over its outgoing edges.
        spearman: rank correlation of |score| over all edges.
        weighted_jaccard: weighted Jaccard (Ruzicka) of |score| over all edges.
        sizes: circuits of growing size.
        variance: how the change of all edges splits into nodes and single edges.
    """

    before: str
    after: str
    identical: bool
    edges: Changes
    node_strengths: Changes
    node_totals: Changes
    spearman: SimilarityEstimate
    weighted_jaccard: SimilarityEstimate
    sizes: tuple[CircuitSimilarity, ...]
    variance: VarianceDecomposition

    @property
    def changed(self) -> bool:
        """Whether anything changed beyond noise: an edge, a node, or the scores as a whole.

        These are three tables at a false discovery rate of 5 % each, and a test: where nothing
        changed, one of them reports a change more often than each alone (docs/statistics.md).
        """
        tables = (self.edges, self.node_totals, self.node_strengths)
        return not self.identical and (
            any(table.changed for table in tables) or self.variance.significant
        )

    @property
    def middle(self) -> CircuitSimilarity:
        """The circuits of the middle size: those that single figures are quoted of."""
        return self.sizes[len(self.sizes) // 2]


class Evolution(Plotted, ResultFile):
    """Checkpoints compared, each with the next and each with the last: comparison.json.

    The file keeps, of each comparison, every edge that changed and at least the 50 largest changes;
    nodes are all kept.

    Attributes:
        names: of the checkpoints, in order.
        layout: which nodes and edges the model has.
        method: attribution method of the scores.
        data: which examples the scores are of.
        pairs: fingerprint of each example; None where the scores do not have them.
        n: examples, the same for every checkpoint.
        n_resamples: bootstrap resamples behind the intervals of edges and node totals.
        samples: random samples behind similarity and turnover.
        seed: of all resampling.
        comparisons: consecutive checkpoints first, then each earlier one with the last, each once.
        trajectory: edges and nodes followed over all checkpoints.
    """

    KIND: ClassVar[str] = "comparison"

    names: tuple[str, ...]
    layout: Layout
    method: str
    data: DataRecord
    pairs: tuple[str, ...] | None
    n: int
    n_resamples: int
    samples: SampleCounts
    seed: int
    comparisons: tuple[Comparison, ...]
    trajectory: Trajectory

    def _facts(self) -> dict[str, str]:
        overall = self.overall
        changed = (
            f"{len(overall.edges.changed)} edges, {len(overall.node_totals.changed)} node totals "
            f"from {overall.before} to {overall.after}, false discovery rate 5 %"
        )
        return {
            "checkpoints": ", ".join(self.names),
            "scores": f"{self.method}, {self.n} examples",
            "changed": "nothing" if overall.identical else changed,
        }

    def to_frame(self) -> pd.DataFrame:
        """The comparisons, a row each.

        Returns:
            Columns before, after, spearman, weighted_jaccard (between the two checkpoints),
            spearman_ceiling and weighted_jaccard_ceiling (within one), changed_edges,
            changed_node_totals, and p of "no edge changed".
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "before": comparison.before,
                "after": comparison.after,
                "spearman": comparison.spearman.between,
                "spearman_ceiling": comparison.spearman.within,
                "weighted_jaccard": comparison.weighted_jaccard.between,
                "weighted_jaccard_ceiling": comparison.weighted_jaccard.within,
                "changed_edges": len(comparison.edges.changed),
                "changed_node_totals": len(comparison.node_totals.changed),
                "p": comparison.variance.p,
            }
            for comparison in self.comparisons
        )

    def between(self, before: str, after: str) -> Comparison:
        """The comparison of two named checkpoints.

        Args:
            before: name of the earlier checkpoint.
            after: name of the later one.

        Returns:
            Their comparison.

        Raises:
            CircuitsError: where the two were not compared; names those that were.
        """
        for comparison in self.comparisons:
            if (comparison.before, comparison.after) == (before, after):
                return comparison
        compared = ", ".join(f"{c.before} and {c.after}" for c in self.comparisons)
        raise CircuitsError(f"{before} and {after} were not compared; compared: {compared}")

    @property
    def overall(self) -> Comparison:
        """First checkpoint and last."""
        return self.between(self.names[0], self.names[-1])

    @property
    def steps_between(self) -> tuple[Comparison, ...]:
        """Each checkpoint with the next; empty for two checkpoints, which `overall` compares."""
        consecutive = self.comparisons[: len(self.names) - 1]
        return consecutive if len(consecutive) > 1 else ()

    @property
    def overview(self) -> tuple[Comparison, ...]:
        """First checkpoint with the last, then the steps between."""
        return (self.overall, *self.steps_between)

    @property
    def training_steps(self) -> list[int] | None:
        """Training step of each checkpoint; None where a name does not tell it."""
        return training_steps(self.names)

    def to_json(self) -> dict[str, object]:
        """The file's content, as JSON values."""
        comparisons = tuple(
            replace(comparison, edges=comparison.edges.top(max(TOP, len(comparison.edges.changed))))
            for comparison in self.comparisons
        )
        return ResultFile.to_json(self.model_copy(update={"comparisons": comparisons}))
