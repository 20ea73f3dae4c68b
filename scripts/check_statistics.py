"""Do the statistics of `circuits compare` hold? Coverage and false discovery, the truth known.

    python scripts/check_statistics.py
    python scripts/check_statistics.py --scores runs/quickstart/scores/base.safetensors \\
        runs/quickstart/scores/step-200.safetensors

Two checkpoints are sampled again and again (`populations.py`), their intervals counted that hold
the truth; a 95 % interval should in 93 to 97 % of the samples. `--repeats 1000` halves the noise of
the shares themselves. Coverage on simulated scores is that over many models, each with means of its
own and `A_MODEL` samples: where circuits are small, a similarity takes few values, and in one model
its coverage goes up and down with where they lie (as a proportion's does: Brown, Cai and DasGupta
2001). False discoveries are counted in the first of the models.

Estimands: mean scores, sums of them, and shares of the variance of their change are those of the
population. A Jaccard index or a turnover is of circuits cut from n examples, and noise alone makes
such circuits differ: its estimand is its own mean over samples of n examples, taken from `DRAWS` of
them apart from those whose intervals are counted. Where more than half of the samples give one
value (circuits that hold every node), there is no interval to speak of: -.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

import torch
from jaxtyping import Float
from populations import Population, centred, real, simulated, unchanged
from torch import Tensor
from tqdm.auto import tqdm

from circuits.comparison.agreement import agreement
from circuits.comparison.changes import (
    Strengths,
    by_source,
    edge_changes,
    strength_changes,
    total_changes,
)
from circuits.comparison.snapshot import SIZED, WHOLE, Snapshot, similarities
from circuits.comparison.turnover import EdgeNodes
from circuits.comparison.variance import PARTS, decompose_variance, sums_of_squares
from circuits.graph.edge_values import EdgeValues
from circuits.statistics import (
    bca_interval,
    benjamini_hochberg,
    generator,
    half_weights,
    jackknife_interval,
    mean_inference,
    random_halves,
    resample_weights,
    student_quantile,
)

COUNTS = (20, 50, 100)
SIZES = (0.05, 0.2)
RESAMPLES = 500
A_MODEL = 4  # samples of one simulated model whose intervals are counted
DRAWS, DRAWN_SPLITS = 300, 4  # samples that the true similarity is taken from; splits of each
ASKED, FALSE = 0.95, 0.05
WITHIN = (0.93, 0.97)
# -- what is counted


Interval = tuple[Tensor, Tensor]
Found = dict[str, tuple[Tensor, Tensor, Tensor]]  # low, high, truth (of its own mean: estimate)


def other_intervals(
    values: Float[Tensor, "n k"], weights: Tensor
) -> Iterator[tuple[str, Interval]]:
    """What else an interval of a mean could be."""
    n, mean = len(values), values.mean(dim=0)
    residuals = values - mean
    spread = residuals.square().mean(dim=0).sqrt()
    shift = weights @ residuals
    error = (weights @ residuals.square() - shift.square()).clamp_min(0).sqrt()
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.where(error > 1e-9 * spread, shift / error, 0.0).quantile(ends, dim=0)
    yield "equal-tailed bootstrap-t", (mean - high * spread, mean - low * spread)
    low, high = bca_interval(torch.zeros_like(mean), shift, residuals)
    yield "BCa", (mean + low, mean + high)
    low, high = shift.quantile(ends, dim=0)
    yield "percentile", (mean + low, mean + high)
    half_width = student_quantile(0.95, n - 1) * spread / math.sqrt(n - 1)
    yield "Student's t", (mean - half_width, mean + half_width)


def true_shares(population: Population) -> Float[Tensor, " part"]:
    """Of the variance of the true change."""
    change = (population.after - population.before)[None]
    squares = sums_of_squares(population.layout, [(slice(0, change.shape[1]), change)])[:, 0, 0]
    return squares / squares.sum()


def means_and_nodes(population: Population, n: int, seed: int) -> Found:
    """Intervals of one sample: edges, nodes, variance."""
    layout = population.layout
    before, after = population.sample(n, generator(seed))
    weights = resample_weights(n, RESAMPLES, seed=seed)
    truth = population.after - population.before
    edges = truth.abs() > 0
    change, truth = (after - before)[:, edges], truth[edges]
    intervals: Found = {}
    low, high, _ = mean_inference(change, weights)
    intervals["edge: change"] = (low, high, truth)
    for name, (low, high) in other_intervals(change, weights):
        intervals[f"  (by {name})"] = (low, high, truth)
    ends = population.before, population.after
    totals, sizes = (
        [by_source(transform(side)[None], layout)[0] for side in ends]
        for transform in (torch.clone, torch.abs)
    )
    low, high, _ = mean_inference(by_source(after - before, layout), weights)
    intervals["node: change of total"] = (low, high, totals[1] - totals[0])
    checkpoints = [EdgeValues(layout, side) for side in (before, after)]
    strengths_before, strengths_after = (Strengths.of(side) for side in checkpoints)
    nodes = strength_changes(layout, strengths_before, strengths_after)
    intervals["node: change of strength"] = (
        nodes.change.low,
        nodes.change.high,
        sizes[1] - sizes[0],
    )
    intervals["node: strength"] = (
        *jackknife_interval(strengths_after.value, strengths_after.left_out),
        sizes[1],
    )
    split = decompose_variance(*checkpoints, permutations=100, seed=seed)
    for name, share in zip(PARTS, true_shares(population), strict=True):
        estimate = getattr(split, name).estimate
        if math.isfinite(estimate.value):  # where a change stands out
            intervals[f"variance: {name} share"] = _columns(
                estimate.low, estimate.high, float(share)
            )
    return intervals


def similarity(population: Population, n: int, seed: int) -> Found:
    """Intervals of one sample: similarity and turnover."""
    layout = population.layout
    pair = [EdgeValues(layout, side.float()) for side in population.sample(n, generator(seed))]
    (measures,) = agreement(pair, [(0, 1)], sizes=sizes_of(population), seed=seed)
    names = [*WHOLE, *(f"{name} at {share:.0%}" for share in SIZES for name in SIZED)]
    intervals: Found = {}
    for name, measure, *truth in zip(names, measures, *own_means(population, n), strict=True):
        intervals[name] = _columns(measure.estimate.low, measure.estimate.high, float(truth[0]))
        intervals[f"{name}: gap"] = _columns(measure.gap.low, measure.gap.high, float(truth[1]))
    return intervals


def sizes_of(population: Population) -> tuple[int, ...]:
    """Edges of the circuits that are compared."""
    return tuple(round(share * population.layout.n_edges) for share in SIZES)


@cache
def own_means(
    population: Population, n: int
) -> tuple[Float[Tensor, " measure"], Float[Tensor, " measure"]]:
    """Mean similarity and mean gap over samples of n; NaN where most are one value."""
    nodes, sizes = EdgeNodes.of(population.layout), sizes_of(population)
    equal = torch.full((DRAWN_SPLITS, n), 1 / n, dtype=torch.float64)
    samples: list[Tensor] = []  # each: whole and halves, checkpoint, split, edge
    for seed in range(DRAWS):
        halves = half_weights(equal, random_halves(n, DRAWN_SPLITS, seed=seed))
        pair = population.sample(n, generator(10**6 + seed))
        samples.append(
            torch.stack([torch.stack([w.double() @ x for x in pair]) for w in (equal, *halves)])
        )
    full_sample, first_half, second_half = (
        [Snapshot(side.flatten(0, 1).float(), sizes, nodes) for side in part]
        for part in torch.stack(samples, dim=2)
    )
    value = similarities(*full_sample)
    between = torch.stack(
        [similarities(first_half[0], second_half[1]), similarities(first_half[1], second_half[0])]
    )
    within = torch.stack(
        [similarities(first_half[0], second_half[0]), similarities(first_half[1], second_half[1])]
    )
    gap = between.nanmean(dim=0) - within.nanmean(dim=0)
    gap = gap.unflatten(0, (DRAWS, DRAWN_SPLITS)).nanmean(dim=1)
    return _mean_of_many(value), _mean_of_many(gap)


def _mean_of_many(values: Float[Tensor, "sample k"]) -> Float[Tensor, " k"]:
    """Mean of each column; NaN where more than half of it is one value."""
    median = values.nanmedian(dim=0).values
    is_constant = ((values - median).abs() <= 1e-9).double().mean(dim=0) > 0.5
    return torch.where(is_constant, math.nan, values.nanmean(dim=0))


def _columns(low: float, high: float, truth: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.tensor([low]), torch.tensor([high]), torch.tensor([truth])


def coverage(samples: Iterator[Found], *, of_its_own_mean: bool) -> dict[str, tuple[float, float]]:
    """Of each row: the share of intervals that hold the truth, and how wide they are.

    of_its_own_mean: the third of each row is the estimate; its mean over the samples is the truth.
    Width: in units of a right interval, 3.92 times the root mean square error of the middle.
    NaN where half of the samples or more have no truth, or one value.
    """
    columns_of = defaultdict(list)
    for intervals in samples:
        for name, columns in intervals.items():
            columns_of[name].append(torch.stack([column.double() for column in columns]))
    result = {}
    for name, rows in columns_of.items():
        low, high, truth = torch.stack(rows, dim=1)  # each: sample, k
        if of_its_own_mean:
            truth = _mean_of_many(truth).expand_as(truth)
        finite = low.isfinite() & high.isfinite() & truth.isfinite()
        if finite.double().mean() < 0.5:
            result[name] = (math.nan, math.nan)
            continue
        covered = ((low <= truth + 1e-9) & (truth - 1e-9 <= high))[finite].double().mean()
        error = torch.where(finite, (low + high) / 2 - truth, math.nan)
        right_width = 3.92 * error.square().nanmean(dim=0).sqrt()
        width = (torch.where(finite, high - low, math.nan).nanmean(dim=0) / right_width)[
            right_width > 0
        ]
        result[name] = (float(covered), float(width.nanmedian()) if len(width) else math.nan)
    return result


def discoveries(
    population: Population, n: int, repeats: int, changed: float
) -> tuple[float, float]:
    """P(any false discovery), and the false discovery rate, at q <= .05.

    changed: the share of edges given a change of up to 1.5 standard deviations of its difference.
    """
    any_false, rates = [], []
    for seed in range(repeats):
        draw = generator(seed)
        before, after = population.sample(n, draw)
        is_changed = torch.rand(before.shape[1], generator=draw) < changed
        size = torch.rand(before.shape[1], generator=draw, dtype=torch.float64) * 1.5
        change = after - before
        change += is_changed * size * change.std(dim=0)
        p = mean_inference(change, resample_weights(n, RESAMPLES, seed=seed))[2]
        discovered = benjamini_hochberg(p) <= FALSE
        false = int((discovered & ~is_changed).sum())
        any_false.append(false > 0)
        rates.append(false / max(1, int(discovered.sum())))
    return sum(any_false) / repeats, sum(rates) / repeats


def without_the_largest(pool: Float[Tensor, "example edge"], n: int, repeats: int) -> float:
    """Of the false discoveries where no mean changed: those in samples without one example.

    It is the one in which the edge's change is farthest from its mean.
    """
    residuals = pool - pool.mean(dim=0)
    largest = residuals.abs().argmax(dim=0)
    without_largest: list[bool] = []
    for seed in range(repeats):
        indices = torch.randint(len(pool), (n,), generator=generator(seed))  # as `real` draws
        p = mean_inference(residuals[indices], resample_weights(n, RESAMPLES, seed=seed))[2]
        discovered = (benjamini_hochberg(p) <= FALSE).nonzero().flatten()
        without_largest += [bool((indices != largest[edge]).all()) for edge in discovered]
    return sum(without_largest) / max(1, len(without_largest))


def false_alarms(population: Population, n: int, repeats: int) -> dict[str, float]:
    """How often something is found where no mean changed, by everything that may find it."""
    layout = population.layout
    counts: dict[str, float] = defaultdict(float)
    for seed in range(repeats):
        before, after = (EdgeValues(layout, side) for side in population.sample(n, generator(seed)))
        weights = resample_weights(n, RESAMPLES, seed=seed)
        totals = total_changes(before, after, weights)
        strengths = strength_changes(layout, *(Strengths.of(x) for x in (before, after)))
        split = decompose_variance(before, after, permutations=199, seed=seed)
        alarms = {
            "edges: any q <= .05": bool(edge_changes(before, after, weights).changed),
            "node totals: any q <= .05": bool(totals.changed),
            "node strengths: any q <= .05": bool(strengths.changed),
            "variance: p <= .05": split.p <= FALSE,
        }
        for name, alarm in (alarms | {"any of these": any(alarms.values())}).items():
            counts[name] += alarm
    return {name: count / repeats for name, count in counts.items()}


def gaps_apart(population: Population, n: int, repeats: int) -> dict[str, float]:
    """How often the interval of a gap leaves out 0, where there is nothing but noise."""
    intervals_off: dict[str, list[float]] = defaultdict(list)
    for seed in range(repeats):
        for name, (low, high, _) in similarity(population, n, seed).items():
            if name.endswith("gap"):
                intervals_off[name].append(float((low > 0) | (high < 0)))
    return {name: sum(rows) / len(rows) for name, rows in intervals_off.items()}


def report_coverage(populations: Sequence[Population], counts: Sequence[int], repeats: int) -> None:
    """Print a row for every statistic, a column for every number of examples."""
    n_samples = max(1, repeats // len(populations))
    noise = math.sqrt(ASKED * (1 - ASKED) / (n_samples * len(populations)))
    print(f"\n{populations[0].name}: coverage of 95 % intervals (width beside a right one's)")
    print(f"standard error of a share: {noise:.3f}; ! marks those outside .93-.97 by two of them")
    columns = []
    for n in counts:
        covered: dict[str, tuple[float, float]] = {}
        for statistic in (means_and_nodes, similarity):
            bar = tqdm(populations, desc=f"{statistic.__name__}, n = {n}", leave=False)
            samples = (
                statistic(population, n, index * n_samples + seed)
                for index, population in enumerate(bar)
                for seed in range(n_samples)
            )
            covered |= coverage(samples, of_its_own_mean=False)
        columns.append(covered)
    print(f"{'':34}" + "".join(f"{f'n = {n}':>16}" for n in counts))
    for name in dict.fromkeys(name for column in columns for name in column):
        figures = [column.get(name, (math.nan, math.nan)) for column in columns]
        print(f"{name:34}" + "".join(f"{_shown(*figure, 2 * noise):>16}" for figure in figures))


def _shown(share: float, width: float, tolerance: float) -> str:
    if math.isnan(share):
        return "-"
    is_outside = not WITHIN[0] - tolerance <= share <= WITHIN[1] + tolerance
    return f"{'! ' if is_outside else ''}{share:.3f} ({width:.2f})"


def report_discoveries(population: Population, counts: Sequence[int], repeats: int) -> None:
    """Print how often there are false discoveries, with and without true changes."""
    print(f"\n{population.name}: false discoveries at q <= .05: P(any), rate")
    for name, nulls, changed in (
        ("no change at all", unchanged(population), 0.0),
        ("no mean changed, shapes did", centred(population), 0.0),
        ("a fifth changed, the rest not", unchanged(population), 0.2),
        ("a fifth changed, shapes too", centred(population), 0.2),
    ):
        figures = [discoveries(nulls, n, repeats, changed) for n in counts]
        print(f"{name:34}" + "".join(f"{f'{a:.3f}, {b:.3f}':>16}" for a, b in figures))
    if population.pool is not None:
        shares = [without_the_largest(population.pool, n, repeats) for n in counts]
        print(
            f"{'- without the largest example':34}" + "".join(f"{share:16.3f}" for share in shares)
        )
    for name, nulls in (
        ("no change at all", unchanged(population)),
        ("no mean changed, shapes did", centred(population)),
    ):
        print(f"\n{population.name}, {name}: how often something is found")
        alarms = [false_alarms(nulls, n, repeats) for n in counts]
        for row in alarms[0]:
            print(f"{row:34}" + "".join(f"{rates[row]:16.3f}" for rates in alarms))
    print(f"\n{population.name}, no change at all: gaps whose interval leaves out 0")
    gap_rates = [gaps_apart(unchanged(population), n, repeats // 3) for n in counts]
    for row in gap_rates[0]:
        print(f"{row:34}" + "".join(f"{rates[row]:16.3f}" for rates in gap_rates))


def main() -> None:
    """Read the options, print the tables."""
    parser = argparse.ArgumentParser(description="Coverage and false discovery of `compare`.")
    parser.add_argument("--scores", nargs=2, metavar="FILE", help="two checkpoints' score files")
    parser.add_argument(
        "--layers", type=int, default=4, help="of simulated models, each as many heads"
    )
    parser.add_argument("--repeats", type=int, default=300, help="samples of each population")
    parser.add_argument("--examples", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--only", choices=("coverage", "discoveries"), help="one of the two")
    options = parser.parse_args()
    models = range(max(1, options.repeats // A_MODEL))
    kinds = [
        [simulated(name, together, options.layers, seed) for seed in models]
        for name, together in (("symmetric product", 0.0), ("skewed product", 0.4))
    ]
    if options.scores:
        kinds = [[real(options.scores)]]
    for populations in kinds:
        if options.only != "discoveries":
            report_coverage(populations, options.examples, options.repeats)
        if options.only != "coverage":
            report_discoveries(populations[0], options.examples, options.repeats)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
