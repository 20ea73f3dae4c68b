"""Which of several lines of circuits is the most faithful at one size, on pairs of its own.

A line is circuits of the same sizes by one way of choosing them: a ranking, the weights of an
ensemble.

1. The line whose f is nearest to 1 at the size asked for leads.
2. Of those whose distance from 1 there cannot be told from the leader's (the 95 % interval of the
   difference, over the pairs, holds 0), the one of the least area under |1 - f| (CMD) is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.measure import faithfulness_from_means, measure
from circuits.graph import AnyCircuit, AnyScores
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.options.choices import Ablation
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, Statistic, estimates
from tasks.pairs import PairSet

FRACTIONS = (0.01, 0.05, 0.2, 0.5, 1.0)
"""Where the short curve is measured, beside the size asked for."""


@dataclass(frozen=True)
class JudgedLine:
    """f: at the size asked for. abs_gap: |1 - f| there. area_abs_gap: area under |1 - f| along the
    line. n_kept: edges (nodes, neurons) of the circuit of that size, pruned.
    """

    f: Estimate
    abs_gap: Estimate
    area_abs_gap: Estimate
    n_kept: int


@dataclass(frozen=True)
class JudgedLines:
    """All lines, in order. taken: the place of the one taken. near: of those not told from it."""

    metric: str
    lines: tuple[JudgedLine, ...]
    taken: int
    near: tuple[int, ...]


def line_sizes(size: int, every: int) -> list[int]:
    """Sizes along a line.

    Args:
        size: the one asked for.
        every: edges, nodes or neurons that there are.

    Returns:
        Rising sizes.
    """
    return sorted({size, *(max(1, int(fraction * every)) for fraction in FRACTIONS)})


def judge_lines(
    model: HookedModel,
    pairs: PairSet,
    lines: Sequence[Sequence[AnyCircuit]],
    size: int,
    *,
    metric: str | None,
    ablation: Ablation | MeanActivations,
    options: RunOptions,
    resume: Pieces | None,
) -> JudgedLines:
    """Run all circuits of all lines.

    Args:
        model: what is run.
        pairs: prompt pairs.
        lines: of circuits of `line_sizes`.
        size: the size asked for.
        metric: its name; None takes the pairs' own.
        ablation: what stands in for what is left out.
        options: batches, seed of the bootstrap, progress.
        resume: keeps what was measured.

    Returns:
        Each line's figures, with intervals over the pairs, and the one to take.
    """
    every = len(lines[0][0].candidates)
    sizes, n = line_sizes(size, every), len(lines)
    size_index, axis = sizes.index(size), torch.tensor(sizes, dtype=torch.float64) / every
    measured = measure(
        model,
        pairs,
        [circuit for line in lines for circuit in line],
        metric=metric,
        ablation=ablation,
        options=options,
        progress="choosing" if options.progress else None,
        resume=resume,
    )
    figures = estimates(measured.columns, _statistic(n, size_index, axis), seed=options.seed)
    judged = tuple(
        JudgedLine(
            f=figures[index],
            abs_gap=figures[n + index],
            area_abs_gap=figures[2 * n + index],
            n_kept=len(line[size_index]),
        )
        for index, line in enumerate(lines)
    )
    differences = [figures[(3 + index) * n : (4 + index) * n] for index in range(n)]
    best, near = _decide(judged, differences)
    return JudgedLines(measured.metric, judged, best, near)


def refuse_scored(scores: AnyScores, pairs: PairSet, what: str) -> None:
    """Refuse to choose on pairs that were scored on.

    Args:
        scores: that something is chosen for.
        pairs: to choose on.
        what: is chosen, by which function.

    Raises:
        CircuitsError: where one of them was scored on.
    """
    shared = scores.provenance.scored_on(pairs)
    if shared:
        raise CircuitsError(
            f"{what} on others, or it will fit their noise: {shared} of the {len(pairs)} pairs "
            "were scored on"
        )


def _decide(
    lines: Sequence[JudgedLine], differences: list[list[Estimate]]
) -> tuple[int, tuple[int, ...]]:
    """The one taken, and those that its |1 - f| is not told from.

    differences: [a][b] of |1 - f| of a less that of b.
    """
    lead = min(range(len(lines)), key=lambda index: lines[index].abs_gap.value)
    near = [
        index
        for index in range(len(lines))
        if index == lead or not differences[index][lead].low > 0
    ]
    best = min(near, key=lambda index: (lines[index].area_abs_gap.value, index))
    return best, tuple(index for index in near if index != best)


def _statistic(lines: int, size_index: int, axis: Float[Tensor, " point"]) -> Statistic:
    """From metric means to each line's f, |1 - f| and area, then all differences of |1 - f|."""

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        f = faithfulness_from_means(means)
        f = rearrange(f, "... (line point) -> ... line point", line=lines)
        f_at_size = f[..., size_index]
        gap = (1 - f_at_size).abs()
        area = torch.trapezoid((1 - f).abs(), axis) if len(axis) > 1 else gap
        pairwise = (gap[..., :, None] - gap[..., None, :]).flatten(-2)
        return torch.cat([f_at_size, gap, area, pairwise], dim=-1)

    return figures
