"""Faithfulness by circuit size, as the MIB benchmark measures it, with intervals and a control.

f(C) = (m(C) - m(none)) / (m(model) - m(none)); 1 is the model, 0 the corrupted run.
CPR: area under f over the fraction of edges kept, edges ranked by signed score; higher is better.
CMD: area under |1 - f|, ranked by absolute score; lower is better.
Scores of nodes or of neurons give the same curves over the fraction of nodes or neurons kept.
Source: Mueller et al. (2025), "MIB: A Mechanistic Interpretability Benchmark". As in its code, a
fraction k of N edges is the first int(k N) of a ranking, pruned; the area's axis is k; beside each
point stands the number of edges that pruning leaves (`weighted_edge_count` there, and in EAP-IG,
where an edge weighs as much as the fraction of its source's neurons that is kept: 1 in circuits of
whole edges).

The linear axis gives everything below 5 % of the edges 7 % of the weight; `log_area_f` is the area
under f over log(fraction), divided by the axis's length, and `at` gives f at one fraction.
A random ranking scores CPR near 0.25 and CMD near 0.75: half of the area under the last step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.answers import share_right
from circuits.evaluation.measure import (
    Judged,
    degenerate_reason,
    faithfulness_from_means,
    measure,
)
from circuits.graph import AnyScores
from circuits.graph.levels import DEFAULT_STRATEGIES, empty_like, order_of
from circuits.graph.submission import SHARES
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.options.choices import Ablation, Count, Level, Strategy
from circuits.options.declared import Options
from circuits.options.run import RunOptions
from circuits.runtime.display import Plotted
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, Statistic, estimates
from tasks.pairs import PairSet

if TYPE_CHECKING:
    import pandas as pd

FRACTIONS = (*SHARES, 1.0)

Order = Int[Tensor, " candidate"]


@dataclass(frozen=True)
class CurveConfig(Options):
    """Which circuits the faithfulness curves are made of.

    Attributes:
        strategy: How a ranking becomes an order (default: widest-path; for nodes and neurons top-n,
            the only one there is); top-n is the benchmark's.
        fractions: Circuit sizes as rising fractions of all edges (nodes, neurons).
        n_random: How many random rankings the control is the mean of.
        extra_orders: More curves by name, each of them an order of all `candidates` of a circuit
            (edges as flat indices of the score matrix).
    """

    strategy: Strategy | None = None
    fractions: tuple[float, ...] = FRACTIONS
    n_random: Count = 3
    extra_orders: Mapping[str, Order] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        rising = list(self.fractions) == sorted({*self.fractions})
        if (
            not self.fractions
            or not rising
            or not all(0 < fraction <= 1 for fraction in self.fractions)
        ):
            raise CircuitsError(
                f"fractions {list(self.fractions)}: give fractions that rise, above 0, at most 1"
            )


@dataclass(frozen=True)
class Curve:
    """Faithfulness f of the circuits of one ranking, by their size.

    level: what is ranked, "edge", "node" or "neuron". ranking: its name.
    fractions: circuit sizes as fractions of all. sizes: how many were selected at each fraction.
    kept: how many of them pruning left; a mean where the curve is the mean of several rankings.
    values: f at each fraction. accuracy: how often the circuit is right there (`answers.py`).
    area_f: area under f. area_abs_gap: area under |1 - f|. log_area_f: area under f over the
        logarithm of the fraction, per unit of it.
    degenerate_reasons: for each fraction, why its circuit can do nothing; None where it can.
    """

    level: Level
    ranking: str
    fractions: tuple[float, ...]
    sizes: tuple[int, ...]
    kept: tuple[float, ...]
    values: tuple[Estimate, ...]
    area_f: Estimate
    area_abs_gap: Estimate
    log_area_f: Estimate
    degenerate_reasons: tuple[str | None, ...]
    accuracy: tuple[Estimate, ...]

    def at(self, fraction: float) -> Estimate:
        """f at one of the fractions.

        Args:
            fraction: one of `fractions`.

        Returns:
            f there.

        Raises:
            CircuitsError: where f was not measured at that fraction.
        """
        if fraction not in self.fractions:
            raise CircuitsError(
                f"f was not measured at {fraction}; only at {', '.join(map(str, self.fractions))}"
            )
        return self.values[self.fractions.index(fraction)]


@dataclass(frozen=True, repr=False)
class Faithfulness(Plotted):
    """Curves of the signed, the absolute and a random ranking on the same examples.

    level: what is ranked, "edge", "node" or "neuron".
    metric: its name. metric_clean, metric_corrupted: its means over the clean and the corrupted
        runs of the whole model.
    fractions: circuit sizes as fractions of all.
    curves: by the ranking's name: "signed", "absolute", "random" where there is a control, and
        those of `CurveConfig.extra_orders`.
    n: examples. strategy: how the rankings became orders.
    accuracy: how often the whole model is right, clean.
    """

    level: Level
    metric: str
    metric_clean: float
    metric_corrupted: float
    fractions: tuple[float, ...]
    curves: dict[str, Curve]
    n: int
    strategy: Strategy
    accuracy: Estimate

    def _facts(self) -> dict[str, str]:
        areas = {
            "CPR": self.cpr if "signed" in self.curves else None,
            "CMD": self.cmd if "absolute" in self.curves else None,
        }
        return {
            "of": f"{self.level}s, {self.n} examples, {self.metric}",
            **{name: str(area) for name, area in areas.items() if area is not None},
        }

    def to_frame(self) -> pd.DataFrame:
        """Every point of every curve, a row each.

        Returns:
            Columns ranking, fraction, size, kept (after pruning), f, low, high (of f), accuracy.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "ranking": name,
                "fraction": fraction,
                "size": size,
                "kept": n_kept,
                "f": f.value,
                "low": f.low,
                "high": f.high,
                "accuracy": right.value,
            }
            for name, curve in self.curves.items()
            for fraction, size, n_kept, f, right in zip(
                *(curve.fractions, curve.sizes, curve.kept, curve.values, curve.accuracy),
                strict=True,
            )
        )

    @property
    def cpr(self) -> Estimate:
        """Area under f, signed ranking: higher is better."""
        return self.curves["signed"].area_f

    @property
    def cmd(self) -> Estimate:
        """Area under |1 - f|, absolute ranking: lower is better."""
        return self.curves["absolute"].area_abs_gap

    @property
    def values(self) -> tuple[Estimate, ...]:
        """f at each fraction, absolute ranking."""
        return self.curves["absolute"].values


def faithfulness(
    model: HookedModel,
    scores: AnyScores,
    pairs: PairSet,
    *,
    metric: str | None = None,
    ablation: Ablation | MeanActivations = "corrupted",
    curve: CurveConfig | None = None,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> Faithfulness:
    """Measure how much of the behaviour circuits of every size keep, with a random control.

    Circuits are pruned before they run, which changes no logit where the corrupted run is what
    stands in for the edges left out.

    Args:
        model: the model that was scored, or another of the same graph.
        scores: of edges, nodes or neurons.
        pairs: prompt pairs that the scores were not made from.
        metric: its name; None takes the pairs' own.
        ablation: what stands in for what is left out, as for `measure`.
        curve: which circuits are run; None takes the defaults of `CurveConfig`.
        options: batches, seed, progress; the seed is of the random rankings and of the bootstrap.
        resume: keeps what was measured until the whole is done.

    Returns:
        A curve for each ranking, with 95 % intervals over the pairs.

    Raises:
        UndefinedMetricError: where clean and corrupted metric are equal.
        CircuitsError: where metric or ablation are not known, or a strategy does not fit the level.
    """
    curve, options = curve or CurveConfig(), options or RunOptions()
    fractions, n_random = curve.fractions, curve.n_random
    nothing = empty_like(scores)
    orders = {name: [order_of(scores, curve.strategy, name)] for name in ("signed", "absolute")}
    orders |= {name: [order] for name, order in curve.extra_orders.items()}
    draw = torch.Generator().manual_seed(options.seed)
    candidates = nothing.candidates
    orders["random"] = [
        candidates[torch.randperm(len(candidates), generator=draw)] for _ in range(n_random)
    ]
    sizes = tuple(int(fraction * len(candidates)) for fraction in fractions)
    selected = {
        name: [[nothing.with_only(order[:size]) for size in sizes] for order in lines]
        for name, lines in orders.items()
        if lines
    }
    pruned = {
        name: [circuit.pruned() for line in lines for circuit in line]
        for name, lines in selected.items()
    }
    measured = measure(
        model,
        pairs,
        [circuit for line in pruned.values() for circuit in line],
        metric=metric,
        ablation=ablation,
        options=options,
        progress="faithfulness" if options.progress else None,
        resume=resume,
    )
    axis = torch.tensor(fractions, dtype=torch.float64)
    curves, first = {}, 0
    for name, line in pruned.items():
        lines = len(selected[name])
        columns = measured.of(range(first, first + len(line)))
        *values, area_f, area_abs_gap, log_area_f = estimates(
            columns, curve_statistic(lines, axis), seed=options.seed
        )
        n_kept = torch.tensor([float(len(circuit)) for circuit in line])
        n_kept = reduce(n_kept, "(line point) -> point", "mean", line=lines)
        reasons = tuple(map(degenerate_reason, selected[name][0]))
        curves[name] = Curve(
            level=nothing.level,
            ranking=name,
            fractions=fractions,
            sizes=sizes,
            kept=tuple(n_kept.tolist()),
            values=tuple(values),
            area_f=area_f,
            area_abs_gap=area_abs_gap,
            log_area_f=log_area_f,
            degenerate_reasons=reasons if lines == 1 else (None,) * len(sizes),
            accuracy=_accuracies(measured, range(first, first + len(line)), lines, options.seed),
        )
        first += len(line)
    return Faithfulness(
        level=nothing.level,
        metric=measured.metric,
        metric_clean=float(measured.clean.mean()),
        metric_corrupted=float(measured.corrupted.mean()),
        fractions=fractions,
        curves=curves,
        n=len(pairs),
        strategy=curve.strategy or DEFAULT_STRATEGIES[nothing.level],
        accuracy=share_right(measured.right[:, 0], options.seed),
    )


def _accuracies(
    measured: Judged, circuits: Sequence[int], lines: int, seed: int
) -> tuple[Estimate, ...]:
    """How often circuits are right at each fraction; several lines are averaged."""
    right = measured.right[:, [2 + index for index in circuits]]
    by_point = reduce(right, "example (line point) -> point example", "mean", line=lines)
    return tuple(share_right(row, seed) for row in by_point)


def curve_statistic(lines: int, axis: Float[Tensor, " point"]) -> Statistic:
    """From metric means to f at each fraction, then three areas; several lines are averaged.

    Args:
        lines: how many rankings the columns are of, one after the other.
        axis: the fractions.

    Returns:
        f at each fraction, the areas under f and under |1 - f|, and the area under f over the
        logarithm of the fraction.
    """

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        f = faithfulness_from_means(means)
        f = rearrange(f, "... (line point) -> ... line point", line=lines)
        log = axis.log()
        areas = [
            torch.trapezoid(f, axis),
            torch.trapezoid((1 - f).abs(), axis),
            torch.trapezoid(f, log) / (log[-1] - log[0]) if len(axis) > 1 else f[..., 0],
        ]
        return torch.cat([f.mean(dim=-2), torch.stack(areas, dim=-1).mean(dim=-2)], dim=-1)

    return figures
