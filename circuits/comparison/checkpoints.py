"""What fine-tuning changed between checkpoints: edges, nodes, and which of the two.

`compare` takes the scores of two or more checkpoints on the same examples. Differences are paired
and every interval comes from resampling the examples; see `changes`, `agreement`, `turnover`,
`variance` for what is measured and `circuits.statistics` for how.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from torch import Tensor
from tqdm.auto import tqdm

from circuits.comparison.agreement import DRAWN, agreement
from circuits.comparison.changes import (
    Strengths,
    edge_changes,
    edge_names,
    strength_changes,
    total_changes,
)
from circuits.comparison.evolution import Comparison, Evolution
from circuits.comparison.kept import from_tensors, to_tensors
from circuits.comparison.overlap import circuit_sizes, overlap_of
from circuits.comparison.trajectory import trajectory
from circuits.comparison.variance import decompose_variance, noise_of
from circuits.errors import CircuitsError
from circuits.graph import EdgeScores
from circuits.graph.edge_values import EdgeValues
from circuits.graph.paired import require_paired
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from circuits.statistics import RESOLUTION, resample_weights

SIZES = (0.01, 0.02, 0.05, 0.1, 0.2)


def compare(
    scores: Sequence[EdgeScores],
    *,
    names: Sequence[str] | None = None,
    sizes: Sequence[int | float] = SIZES,
    n_resamples: int = 1000,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> Evolution:
    """Compare checkpoints scored on the same examples.

    Each checkpoint is compared with the next and with the last.

    Args:
        scores: of each checkpoint, in order (see `models.steps.by_step`), with `per_example`.
        names: of the checkpoints; None calls them checkpoint 0, checkpoint 1, ...
        sizes: of the circuits that are compared, each a count of edges (int) or a share of all
            edges (float).
        n_resamples: bootstrap resamples of the examples, and label swaps of the variance.
        options: seed and progress; the batch size plays no part, since no model runs.
        resume: keeps what was found until all is done.

    Returns:
        What changed; scores and their changes are in the metric's units.

    Raises:
        CircuitsError: for fewer than two checkpoints or fewer than 8 examples; for checkpoints of
            other examples, layouts, methods, settings or metrics; for scores without
            `per_example`; for a size that is no circuit's.
    """
    options = options or RunOptions()
    names = _names(scores, names)
    require_paired(scores, names)
    layout = scores[0].layout
    counts = circuit_sizes(sizes, layout)
    values = [EdgeValues.of(s) for s in scores]
    weights = resample_weights(len(values[0]), n_resamples, seed=options.seed)
    strengths = [Strengths.of(v) for v in values]
    noise = cache(lambda index: noise_of(values[index]))  # of the checkpoints that need it, once

    resume = resume or Pieces()
    last = len(scores) - 1
    compared = list(dict.fromkeys([*pairwise(range(last + 1)), *((i, last) for i in range(last))]))
    similarity = agreement(
        values,
        compared,
        sizes=counts,
        seed=options.seed + 1,
        progress=options.progress,
        resume=resume,
    )
    rows = {
        "edges": edge_names(layout),
        "node_strengths": layout.sources,
        "node_totals": layout.sources,
    }
    comparisons = []
    bar = tqdm(compared, desc="changes", unit="pair", disable=not options.progress)
    for (i, j), measures in zip(bar, similarity, strict=True):
        before, after = values[i], values[j]

        def compare_pair(i: int = i, j: int = j) -> dict[str, Tensor]:
            tables = {
                "edges": edge_changes(values[i], values[j], weights),
                "node_strengths": strength_changes(layout, strengths[i], strengths[j]),
                "node_totals": total_changes(values[i], values[j], weights),
            }
            variance = decompose_variance(
                values[i],
                values[j],
                permutations=n_resamples,
                seed=options.seed + 3,
                noise=[noise(i), noise(j)],
            )
            return to_tensors(tables, variance)

        identity = {
            "scores": [before.summary.digest, after.summary.digest],
            "n_resamples": n_resamples,
            "seed": options.seed,
        }
        tables, variance = from_tensors(rows, resume.once(identity, compare_pair))
        overlap = overlap_of((names[i], names[j]), measures, counts, layout)
        comparisons.append(
            Comparison(
                before=names[i],
                after=names[j],
                identical=_identical(before, after),
                edges=tables["edges"],
                node_strengths=tables["node_strengths"],
                node_totals=tables["node_totals"],
                spearman=overlap.spearman,
                weighted_jaccard=overlap.weighted_jaccard,
                sizes=overlap.sizes,
                variance=variance,
            )
        )
    data = scores[0].provenance.data
    assert data is not None  # `require_paired` has seen to it
    return Evolution(
        names=names,
        layout=layout,
        method=scores[0].method,
        data=data,
        pairs=scores[0].provenance.pairs,
        n=len(values[0]),
        n_resamples=n_resamples,
        samples=DRAWN,
        seed=options.seed,
        comparisons=tuple(comparisons),
        trajectory=trajectory(values, names, weights, strengths, size=counts[len(counts) // 2]),
    )


def _names(scores: Sequence[EdgeScores], names: Sequence[str] | None) -> tuple[str, ...]:
    if len(scores) < 2:
        raise CircuitsError(f"{len(scores)} checkpoint to compare; it takes at least two")
    if names is None:
        return tuple(f"checkpoint {index}" for index in range(len(scores)))
    if len(names) != len(scores):
        raise CircuitsError(f"{len(names)} names for {len(scores)} checkpoints")
    if len(set(names)) != len(names):
        raise CircuitsError(f"two checkpoints share a name: {', '.join(names)}")
    return tuple(names)


def _identical(before: EdgeValues, after: EdgeValues) -> bool:
    """Whether no score of any example differs beyond rounding."""
    most = RESOLUTION * max(float(before.summary.largest), float(after.summary.largest))
    blocks = zip(before.blocks(), after.blocks(), strict=True)
    return all(float((new - old).abs().max()) <= most for (_, old), (_, new) in blocks)
