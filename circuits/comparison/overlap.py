"""How alike the circuits of several models are to one model's, beside noise ceilings.

Every model but the one asked about is set beside it; `agreement` says how figures, intervals,
ceilings and gaps are made. Models need no order: a LoRA is no later than another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from circuits.comparison.agreement import agreement
from circuits.comparison.circuit_similarity import CircuitSimilarity, SimilarityEstimate
from circuits.comparison.snapshot import SIZED, WHOLE
from circuits.errors import CircuitsError
from circuits.graph import EdgeScores, Layout
from circuits.graph.edge_values import EdgeValues
from circuits.graph.paired import require_paired
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces


@dataclass(frozen=True)
class Overlap:
    """One model's scores and circuits beside another's, on the same examples.

    Attributes:
        model: its name.
        other: name of the one that it is held against.
        spearman: rank correlation of |score| over all edges.
        weighted_jaccard: weighted Jaccard (Ruzicka) of |score| over all edges.
        sizes: circuits of growing size.
    """

    model: str
    other: str
    spearman: SimilarityEstimate
    weighted_jaccard: SimilarityEstimate
    sizes: tuple[CircuitSimilarity, ...]

    @property
    def middle(self) -> CircuitSimilarity:
        """The circuits of the middle size: those that single figures are quoted of."""
        return self.sizes[len(self.sizes) // 2]


def overlaps(
    scores: Mapping[str, EdgeScores],
    other: str,
    *,
    sizes: Sequence[int | float],
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> tuple[Overlap, ...]:
    """Hold every model's scores against one model's.

    Args:
        scores: by the model's name, with `per_example`, all on the same examples.
        other: the name of the model that the others are held against.
        sizes: of the circuits, each a count of edges (int) or a share of all edges (float).
        options: seed and progress.
        resume: keeps what was found until all is done.

    Returns:
        An overlap of each other model, in their order.

    Raises:
        CircuitsError: where no scores are that model's, or no others; for scores that cannot be
            paired (`compare`), and for a size that is no circuit's.
    """
    names = tuple(scores)
    if other not in scores or len(scores) < 2:
        raise CircuitsError(
            f"scores of {', '.join(names) or 'no model'}: give those of {other} and of another "
            "model"
        )
    require_paired(list(scores.values()), names)
    options = options or RunOptions()
    layout, other_index = scores[other].layout, names.index(other)
    counts = circuit_sizes(sizes, layout)
    model_indices = [number for number in range(len(names)) if number != other_index]
    similarity = agreement(
        [EdgeValues.of(s) for s in scores.values()],
        [(number, other_index) for number in model_indices],
        sizes=counts,
        seed=options.seed + 1,
        progress=options.progress,
        resume=resume,
    )
    return tuple(
        overlap_of((names[number], other), measures, counts, layout)
        for number, measures in zip(model_indices, similarity, strict=True)
    )


def overlap_of(
    names: tuple[str, str],
    measures: Sequence[SimilarityEstimate],
    counts: Sequence[int],
    layout: Layout,
) -> Overlap:
    """One pair's measures, in the order of `agreement`, under their names."""
    spearman, weighted = (measures[index] for index in range(len(WHOLE)))
    rest = measures[len(WHOLE) :]
    starts = range(0, len(rest), len(SIZED))
    return Overlap(
        model=names[0],
        other=names[1],
        spearman=spearman,
        weighted_jaccard=weighted,
        sizes=tuple(
            CircuitSimilarity(
                count,
                count / layout.n_edges,
                **dict(zip(SIZED, rest[start : start + len(SIZED)], strict=True)),
            )
            for count, start in zip(counts, starts, strict=True)
        ),
    )


def circuit_sizes(sizes: Sequence[int | float], layout: Layout) -> tuple[int, ...]:
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
