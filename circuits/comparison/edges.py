"""What fine-tuning changed between checkpoints: edges, nodes, and which of the two.

`compare` takes the scores of two or more checkpoints on the same examples. Differences are paired
and every interval comes from resampling the examples; see `changes`, `agreement`, `turnover`,
`variance` for what is measured and `statistics` for how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from circuits.comparison import words
from circuits.comparison.agreement import DRAWN, SIZED, WHOLE, SimilarityEstimate, agreement
from circuits.comparison.changes import (
    Changes,
    Strengths,
    edge_changes,
    edge_names,
    strength_changes,
    total_changes,
)
from circuits.comparison.kept import from_tensors, to_tensors
from circuits.comparison.trajectory import Trajectory, trajectory
from circuits.comparison.variance import VarianceDecomposition, decompose_variance
from circuits.errors import CircuitsError
from circuits.graph import EdgeScores, Layout
from circuits.graph.paired import require_paired
from circuits.models.steps import training_steps
from circuits.runtime.resume import Pieces, digest
from circuits.statistics import RESOLUTION, resample_weights

SIZES = (0.01, 0.02, 0.05, 0.1, 0.2)
TOP = 50  # edges in the JSON, and all others that changed


@dataclass(frozen=True)
class CircuitSimilarity:
    """Two circuits of equal size: the top `edges` edges by |score|, before pruning.

    edge_jaccard, weighted_jaccard, node_jaccard: shared over all; weighted counts each edge by its
        share of its circuit's summed |score|.
    node_driven, rewired: turnover as shares of the edges in either circuit; 1 - edge_jaccard in
        sum. rewired_share: rewired / (node_driven + rewired).
    """

    edges: int
    share: float
    edge_jaccard: SimilarityEstimate
    weighted_jaccard: SimilarityEstimate
    node_jaccard: SimilarityEstimate
    node_driven: SimilarityEstimate
    rewired: SimilarityEstimate
    rewired_share: SimilarityEstimate

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        measures = {name: getattr(self, name).to_dict() for name in SIZED}
        return {"edges": self.edges, "share": self.share, **measures}


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints, `before` and `after`.

    identical: no score of any example differs beyond rounding.
    edges, nodes, totals: changes of edges, of node strengths, of node totals (see `changes`).
    spearman: rank correlation of |score| over all edges. overlap: weighted Jaccard of all edges.
    """

    before: str
    after: str
    identical: bool
    edges: Changes
    nodes: Changes
    totals: Changes
    spearman: SimilarityEstimate
    overlap: SimilarityEstimate
    sizes: tuple[CircuitSimilarity, ...]
    variance: VarianceDecomposition

    def to_dict(self) -> dict[str, Any]:
        """JSON form: every edge that changed and at least 50, every node."""
        return {
            "before": self.before,
            "after": self.after,
            "identical": self.identical,
            "edges": self.edges.to_dict(top=max(TOP, len(self.edges.changed))),
            "nodes": self.nodes.to_dict(top=len(self.nodes)),
            "totals": self.totals.to_dict(top=len(self.totals)),
            "spearman": self.spearman.to_dict(),
            "overlap": self.overlap.to_dict(),
            "sizes": [size.to_dict() for size in self.sizes],
            "variance": self.variance.to_dict(),
            "paragraph": self.paragraph(),
        }

    def paragraph(self) -> str:
        """The comparison in plain words."""
        return words.comparison(self)


@dataclass(frozen=True)
class Evolution:
    """Checkpoints compared: consecutive ones, and each with the last.

    data: which examples the scores are of; pairs: each one's fingerprint (older files have none).
    comparisons: consecutive first, then each earlier one with the last, without repeats.
    """

    names: tuple[str, ...]
    layout: Layout
    method: str
    data: Mapping[str, Any]
    examples: int
    n_resamples: int
    seed: int
    comparisons: tuple[Comparison, ...]
    trajectory: Trajectory

    def between(self, before: str, after: str) -> Comparison:
        """The comparison of two named checkpoints."""
        for comparison in self.comparisons:
            if (comparison.before, comparison.after) == (before, after):
                return comparison
        known = ", ".join(f"{c.before} and {c.after}" for c in self.comparisons)
        raise CircuitsError(f"{before} and {after} were not compared; compared: {known}")

    @property
    def overall(self) -> Comparison:
        """First checkpoint against last."""
        return self.between(self.names[0], self.names[-1])

    def to_dict(self) -> dict[str, Any]:
        """JSON form: no NaN, None where a figure is undefined."""
        return {
            "names": list(self.names),
            "steps": training_steps(self.names),
            "layout": self.layout.to_dict(),
            "method": self.method,
            "data": dict(self.data),
            "examples": self.examples,
            "n_resamples": self.n_resamples,
            "likeness": dict(DRAWN),
            "seed": self.seed,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "trajectory": self.trajectory.to_dict(),
            "paragraph": self.paragraph(),
        }

    def paragraph(self) -> str:
        """First against last in plain words, then the steps between in a sentence each."""
        return words.evolution(self)


def compare(
    scores: Sequence[EdgeScores],
    *,
    names: Sequence[str] | None = None,
    sizes: Sequence[int | float] = SIZES,
    seed: int = 0,
    n_resamples: int = 1000,
    progress: bool = False,
    resume: Pieces | None = None,
) -> Evolution:
    """Compare checkpoints scored on the same examples, in the order given (see `by_step`).

    scores: with `per_example`; details["data"]["fingerprint"] says which examples.
    sizes: of circuits: counts of edges (int) or shares of all edges (float).
    unfinished: keeps what was found until the whole is done.
    Raises CircuitsError for fewer than two checkpoints; other examples, layouts, methods, settings
    or metrics; scores without `per_example`; fewer than 8 examples.
    """
    names = _names(scores, names)
    require_paired(scores, names)
    layout = scores[0].layout
    counts = _counts(sizes, layout)
    values = [_possible(one) for one in scores]
    weights = resample_weights(len(values[0]), n_resamples, seed=seed)
    strengths = [Strengths.of(layout, one) for one in values]

    resume = resume or Pieces()
    last = len(scores) - 1
    compared = list(dict.fromkeys([*pairwise(range(last + 1)), *((i, last) for i in range(last))]))
    likeness = agreement(
        values,
        compared,
        layout=layout,
        sizes=counts,
        seed=seed + 1,
        progress=progress,
        resume=resume,
    )
    rows = {"edges": edge_names(layout), "nodes": layout.sources, "totals": layout.sources}
    comparisons = []
    bar = tqdm(compared, desc="changes", unit="pair", disable=not progress)
    for (i, j), measures in zip(bar, likeness, strict=True):
        before, after = values[i], values[j]
        scale = max(float(before.abs().max()), float(after.abs().max()))
        spearman, overlap = measures[: len(WHOLE)]

        def found(i: int = i, j: int = j) -> dict[str, Tensor]:
            tables = {
                "edges": edge_changes(layout, values[i], values[j], weights),
                "nodes": strength_changes(layout, strengths[i], strengths[j]),
                "totals": total_changes(layout, values[i], values[j], weights),
            }
            split = decompose_variance(
                layout, values[i], values[j], permutations=n_resamples, seed=seed + 3
            )
            return to_tensors(tables, split)

        identity = {"scores": digest(before, after), "n_resamples": n_resamples, "seed": seed}
        tables, variance = from_tensors(rows, resume.once(identity, found))
        comparisons.append(
            Comparison(
                before=names[i],
                after=names[j],
                identical=float((after - before).abs().max()) <= RESOLUTION * scale,
                **tables,
                spearman=spearman,
                overlap=overlap,
                sizes=tuple(
                    CircuitSimilarity(
                        count, count / layout.n_edges, *measures[start : start + len(SIZED)]
                    )
                    for count, start in zip(
                        counts, range(len(WHOLE), len(measures), len(SIZED)), strict=True
                    )
                ),
                variance=variance,
            )
        )
    return Evolution(
        names=names,
        layout=layout,
        method=scores[0].method,
        data={**scores[0].details["data"], "pairs": scores[0].details.get("pairs")},
        examples=len(values[0]),
        n_resamples=n_resamples,
        seed=seed,
        comparisons=tuple(comparisons),
        trajectory=trajectory(
            layout, values, names, weights, strengths, size=counts[len(counts) // 2]
        ),
    )


def _names(scores: Sequence[EdgeScores], names: Sequence[str] | None) -> tuple[str, ...]:
    if len(scores) < 2:
        raise CircuitsError(f"{len(scores)} checkpoint to compare; it takes at least two")
    if names is None:
        return tuple(f"checkpoint {place}" for place in range(len(scores)))
    if len(names) != len(scores):
        raise CircuitsError(f"{len(names)} names for {len(scores)} checkpoints")
    if len(set(names)) != len(names):
        raise CircuitsError(f"two checkpoints share a name: {', '.join(names)}")
    return tuple(names)


def _counts(sizes: Sequence[int | float], layout: Layout) -> tuple[int, ...]:
    """Sizes as counts of edges, ascending, without repeats."""
    counts = set()
    for size in sizes:
        count = size if isinstance(size, int) else max(1, round(size * layout.n_edges))
        if not 1 <= count <= layout.n_edges:
            raise CircuitsError(
                f"a circuit of size {size}; it must be 1 to {layout.n_edges} edges, or a share "
                "above 0 and up to 1.0"
            )
        counts.add(count)
    if not counts:
        raise CircuitsError("no circuit sizes to compare at")
    return tuple(sorted(counts))


def _possible(scores: EdgeScores) -> Float[Tensor, "n edge"]:
    """Per-example scores of the edges that exist, in matrix order."""
    assert scores.per_example is not None
    values = scores.per_example[:, scores.mask].float()
    if not torch.isfinite(values).all():
        example = int((~torch.isfinite(values)).any(dim=1).nonzero()[0])
        raise CircuitsError(f"the scores of example {example} are not finite")
    return values
