"""How many examples does it take? Reliability of scores and circuits, from the examples at hand.

No model is run; sums of scores over random blocks of the examples are enough. Four figures:

- *Reliability of the scores*: the correlation, over edges, of mean scores with those of as many new
  examples. Split halves by the formula of Spearman and Brown (1910); over all splits of the blocks
  in two it is 1 - s^2 / v, v the variance of mean scores over edges and s^2 that of their errors.
- *Sampling error*: the L1 error of mean scores over the L1 norm of the true ones, to be held beside
  the error of quadrature, which is of the same kind. Half the difference of two halves errs as the
  mean of all does. The norm, which noise makes too large, is extrapolated from halves and whole.
- *Likeness*: the Jaccard index of circuits from two disjoint sets of as many examples. Circuits of
  the two halves of many splits are chosen by the strategy and size in question. Halves are half as
  many: every edge's mean and standard error say what circuits would share (`likeness.shared`); the
  errors are scaled by the one factor that makes that right for the halves, and then by the root of
  the number of examples.
- *Examples needed* for a likeness of .8 (the bar of arXiv:2510.00845), by the same curve. Where
  halves share next to nothing, the curve has no foothold and none is named.

Intervals: delete-a-block jackknife, Student's quantile, on the scale of logarithms (of odds where
the figure lies between 0 and 1). It follows the curve and not what halves happen to share: to its
error that of the spread among splits is added, which is about right on simulated scores and wide
for whole paths (docs/statistics.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from circuits.errors import CircuitsError
from circuits.evaluation.draws import Chosen, drawn, with_values
from circuits.evaluation.likeness import jaccard_of, shared
from circuits.evaluation.sampling import Sample
from circuits.graph import AnyScores
from circuits.graph.blocks import Blocks, block_of, blocks_of_examples
from circuits.graph.findings import MOST, Needed, Reliability
from circuits.graph.levels import DEFAULT_STRATEGIES, empty_like, select_size
from circuits.options.choices import Level, Ranking, Strategy
from circuits.statistics import LEVEL, jackknife_error, random_halves, student_quantile
from circuits.statistics.estimate import Estimate

TARGET = 0.8
FEWEST = 4
"""Examples below which halves of one or two say nothing."""
FRACTIONS: dict[Level, float] = {"edge": 0.01, "node": 0.1, "neuron": 0.01}
"""Size of a circuit as a fraction of all, where none is asked for."""
_FOOTHOLD = 0.2
_SPLITS = 12
_FACTORS = (1 / 32, 32.0)


def reliability(
    scores: AnyScores,
    *,
    size: int | None = None,
    strategy: Strategy | None = None,
    ranking: Ranking = "absolute",
    positive_ratio: float | None = None,
    target: float = TARGET,
    seed: int = 0,
) -> Reliability:
    """How far these scores, and a circuit chosen by them, depend on their examples.

    No model is run.

    Args:
        scores: fresh ones of `attribute`, or ones of which single examples were kept.
        size: edges (nodes, neurons) of the circuit, before pruning; None takes 1 % of all edges or
            neurons, 10 % of all nodes.
        strategy: how the ranking becomes an order, as for `select`; None takes "widest-path" for
            edges, "top-n" for nodes and neurons.
        ranking: "absolute", "signed" or "mixed".
        positive_ratio: the share by signed score, of "mixed".
        target: the Jaccard index to be reached, between 0 and 1.
        seed: of the splits in halves.

    Returns:
        Reliability of the scores, sampling error, likeness of circuits, and the examples needed,
        with 95 % intervals.

    Raises:
        CircuitsError: where there are fewer than 4 examples, or nothing of single ones is known.
    """
    if not 0 < target < 1:
        raise CircuitsError(f"target={target}: a Jaccard index between 0 and 1")
    blocks = _blocks(scores)
    if blocks.examples < FEWEST:
        raise CircuitsError(
            f"{blocks.examples} examples: how far scores depend on them takes at least {FEWEST}"
        )
    empty = empty_like(scores)
    if size is None:
        size = max(1, round(FRACTIONS[empty.level] * len(empty.candidates)))
    strategy = strategy or DEFAULT_STRATEGIES[empty.level]
    sample = Sample.of(blocks, empty.candidates)
    rest = [sample.without(block) for block in range(len(blocks.sizes))]
    n, signed = sample.examples, ranking == "signed"

    def choose(half_scores: AnyScores) -> Chosen:
        circuit = select_size(
            half_scores,
            size,
            strategy=strategy,
            ranking=ranking,
            positive_ratio=positive_ratio,
            prune=False,
        )
        return circuit.mask.flatten()[empty.candidates]

    halves = _Halves.of(scores, blocks, sample, choose, seed)
    factor = _solved(
        lambda c: shared(sample.mean, c * sample.error(halves.examples), size, signed=signed),
        halves.share,
        *_FACTORS,
    )

    def alike(subsample: Sample, number: float | int) -> float:
        return jaccard_of(
            shared(subsample.mean, factor * subsample.error(number), size, signed=signed)
        )

    norm = max(2 * float(sample.mean.abs().sum()) - halves.norm, 1e-300)
    errors = [float(s.error(n).sum()) for s in (sample, *rest)]
    apart = [halves.apart / norm * error / max(errors[0], 1e-300) for error in errors]
    return Reliability(
        level=empty.level,
        n=n,
        size=size,
        strategy=strategy,
        ranking=ranking,
        scores=_estimate([s.reliability(n) for s in (sample, *rest)], n, _FREE),
        sampling_error=_estimate(apart, n, _POSITIVE),
        split_half_jaccard=jaccard_of(halves.share),
        likeness=_estimate([alike(s, n) for s in (sample, *rest)], n, _SHARE, halves.spread),
        target=target,
        needed=_needed(alike, sample, rest, target, halves.spread)
        if jaccard_of(halves.share) >= _FOOTHOLD
        else None,
        curve=tuple(
            (number, alike(sample, number))
            for number in sorted({max(1, round(n * 2.0**power)) for power in range(-2, 5)})
        ),
    )


def _blocks(scores: AnyScores) -> Blocks:
    """Of the examples kept, or those that the scoring summed over."""
    if scores.per_example is not None:
        return blocks_of_examples(scores.per_example)
    if scores.blocks is None:
        raise CircuitsError(
            "how far scores depend on their examples can be told of fresh ones, or where single "
            "examples were kept; score with per_example=True (--per-example)"
        )
    return scores.blocks


@dataclass(frozen=True)
class _Halves:
    """Of random splits of the blocks in two.

    examples: of a half (harmonic mean). share: of its circuit that the other half's shares.
    spread: among splits, of the log odds of that.
    apart: L1 norm of the error of the whole's mean scores. norm: of a half's mean scores.
    """

    examples: float
    share: float
    apart: float
    norm: float
    spread: float

    @classmethod
    def of(
        cls,
        scores: AnyScores,
        blocks: Blocks,
        sample: Sample,
        choose: Callable[[AnyScores], Chosen],
        seed: int,
    ) -> _Halves:
        count = len(blocks.sizes)
        splits = random_halves(count, _SPLITS, seed=seed)
        draws: Iterator[AnyScores] | None = None
        if scores.per_example is not None:
            where = block_of(len(scores.per_example), count)
            sides = (half[where] for first in splits for half in (first, ~first))
            draws = drawn(scores, [side.nonzero().flatten() for side in sides])
        split_values = []
        for first in splits:
            circuits, means, sizes = [], [], []
            for half in (first, ~first):
                sizes.append(int(blocks.sizes[half].sum()))
                mean = blocks.sums[half].sum(dim=0, dtype=torch.float64) / sizes[-1]
                means.append(mean.flatten()[sample.candidates])
                half_scores = with_values(scores, mean.float()) if draws is None else next(draws)
                circuits.append(choose(half_scores))
            inverse_sizes = 1 / sizes[0] + 1 / sizes[1]
            split_values.append(
                (
                    2 / inverse_sizes,
                    2
                    * float((circuits[0] & circuits[1]).sum())
                    / float(sum(map(torch.sum, circuits))),
                    float((means[0] - means[1]).abs().sum())
                    * math.sqrt(1 / (blocks.examples * inverse_sizes)),
                    float(torch.stack(means).abs().sum()) / 2,
                )
            )
        examples, share, apart, norm = (
            sum(column) / len(split_values) for column in zip(*split_values, strict=True)
        )
        odds = torch.tensor([_SHARE.to(min(max(row[1], 0.02), 0.98)) for row in split_values])
        return cls(examples, share, apart, norm, float(odds.std()))


def _solved(falling: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Where a falling function takes a value, by bisection on a logarithmic axis, or an end.

    Ours, since SciPy's root finders refuse a function that does not cross the value in between.
    """
    for _ in range(30):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if falling(middle) > value else (low, middle)
    return math.sqrt(low * high)


def _needed(
    alike: Callable[[Sample, float | int], float],
    sample: Sample,
    rest: list[Sample],
    target: float,
    spread: float,
) -> Needed:
    """Examples for a likeness of `target`; the interval by the curve's slope there."""
    value = _solved(lambda number: -alike(sample, number), -target, 1.0, float(MOST))
    near = [alike(sample, value * step) for step in (0.8, 1.25)]
    slope = max((near[1] - near[0]) / math.log(1.25 / 0.8), 1e-6)
    moved = [
        value * math.exp(min((target - alike(subsample, value)) / slope, 30.0))
        for subsample in rest
    ]
    spread *= target * (1 - target) / slope
    estimate = _estimate([value, *moved], sample.examples, _POSITIVE, spread)
    return Needed(
        *(min(MOST, math.ceil(x - 1e-9)) for x in (estimate.value, estimate.low, estimate.high))
    )


@dataclass(frozen=True)
class _Scale:
    """Where the jackknife's errors are about normal, and the way back."""

    to: Callable[[float], float]
    back: Callable[[float], float]


_TINY = 1e-9
_POSITIVE = _Scale(lambda x: math.log(max(x, 1e-300)), math.exp)
_SHARE = _Scale(lambda x: math.log((x + _TINY) / (1 - x + _TINY)), lambda y: 1 / (1 + math.exp(-y)))
_FREE = _Scale(lambda x: -math.log(max(1 - x, _TINY)), lambda y: max(0.0, 1 - math.exp(-y)))
"""Of a correlation: the ratio of all variance to that of the errors."""


def _estimate(values: list[float], n: int, scale: _Scale, spread: float = 0.0) -> Estimate:
    """The first value, with an interval by the others, which are without each block in turn.

    spread: another standard error on that scale.
    """
    moved = torch.tensor([[scale.to(v)] for v in values], dtype=torch.float64)
    reach = student_quantile(LEVEL, len(moved) - 2)
    reach *= math.hypot(float(jackknife_error(moved[1:])), spread)
    low, high = (scale.back(min(float(moved[0]) + way * reach, 700.0)) for way in (-1, 1))
    value = max(values[0], 0.0)
    return Estimate(value, min(low, value), max(high, value), n)
