"""Paired resampling over examples: intervals, p-values, false discovery rate.

The unit of resampling is the example. Two checkpoints are always resampled together, so what an
example contributes to both cancels. A resample is a row of weights that sums to 1; the resampled
means of k quantities are one product, weights @ values, done in chunks of columns so that memory
stays at a few tens of megabytes whatever k is.

Intervals of means: the symmetric bootstrap-t of Hall 1988 ("On symmetric bootstrap confidence
intervals"). Edge scores have heavy tails, where the equal-tailed bootstrap-t follows each edge's
sample skewness astray, and BCa and percentiles fall shorter still; `scripts/check_statistics.py`
measures them all. Of fewer than 8 examples, Student's. Of ratios: "bca", bias-corrected and
accelerated (Efron and Tibshirani 1993, chapter 14). Of smooth functions of many means: the
jackknife; of others, random subsets. q-values: Benjamini and Hochberg 1995.

Student's t, quantiles and q-values are SciPy's and NumPy's. The resampling is ours, since
`scipy.stats.bootstrap` has no bootstrap-t and no resamples shared by two checkpoints: of 32,491
columns it would draw and keep every one's own.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from scipy import special
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.statistics.significance import student_quantile, student_tail

LEVEL = 0.95
FALSE_DISCOVERY_RATE = 0.05
RESOLUTION = 1e-6  # of the largest: a difference below it is rounding
FEW = 8  # examples; resamples of fewer are too alike for intervals of them to hold what they say
_CHUNK = 2**19  # numbers held at once per buffer: 2 MiB, which stay in the processor's cache
_TIE = 1e-9  # of the largest: values that differ by rounding only
_NORMAL = torch.distributions.Normal(0.0, 1.0)


def generator(seed: int) -> torch.Generator:
    """A CPU generator: resamples never depend on the device or on other draws.

    Args:
        seed: of its draws.

    Returns:
        The generator.
    """
    return torch.Generator().manual_seed(seed)


def resample_weights(examples: int, n_resamples: int, *, seed: int) -> Float[Tensor, "resample n"]:
    """Bootstrap resamples as weights: how often each example was drawn, over their number.

    Args:
        examples: how many there are.
        n_resamples: how many resamples to draw, one row each.
        seed: of the draws.

    Returns:
        Weights that sum to 1 in each row.

    Raises:
        CircuitsError: where either number is below 1.
    """
    if examples < 1 or n_resamples < 1:
        raise CircuitsError(
            f"{n_resamples} resamples of {examples} examples: both must be positive"
        )
    draws = torch.randint(examples, (n_resamples, examples), generator=generator(seed))
    counts = torch.zeros(n_resamples, examples, dtype=torch.float64)
    counts.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))
    return counts / examples


def subset_weights(
    examples: int, subsets: int, *, seed: int, share: float = 0.5
) -> Float[Tensor, "subset n"]:
    """Random subsets of that share of the examples as weights, for `subset_interval`.

    Args:
        examples: how many there are.
        subsets: how many subsets to draw, one row each.
        seed: of the draws.
        share: of the examples that a subset has.

    Returns:
        Weights that sum to 1 in each row, 0 outside the subset.

    Raises:
        CircuitsError: for a share that leaves no example in or out.
    """
    size = round(share * examples)
    if not 0 < size < examples:
        raise CircuitsError(f"{share:.0%} of {examples} examples is no proper part of them")
    order = torch.rand(subsets, examples, generator=generator(seed), dtype=torch.float64)
    return (order.argsort(dim=1).argsort(dim=1) < size).double() / size


def random_halves(examples: int, splits: int, *, seed: int) -> Bool[Tensor, "split n"]:
    """Random splits of the examples in two: True for those of the first half.

    Args:
        examples: how many there are.
        splits: how many splits to draw, one row each.
        seed: of the draws.

    Returns:
        True for the examples of the first half.
    """
    order = torch.rand(splits, examples, generator=generator(seed), dtype=torch.float64)
    return order.argsort(dim=1).argsort(dim=1) < examples // 2


def half_weights(
    weights: Float[Tensor, "m n"], first: Bool[Tensor, "m n"]
) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m n"]]:
    """Each row's weights on the first half of the examples, and on the second.

    A half without any weight keeps its examples equally.

    Args:
        weights: of resamples, one row each.
        first: True for the examples of the first half, one row for each of them.

    Returns:
        The weights on the first and on the second half; each row sums to 1.
    """
    sides = []
    for half in (first, ~first):
        part = torch.where(half, weights, 0.0)
        part = torch.where(part.sum(dim=1, keepdim=True) > 0, part, half.double())
        sides.append(part / part.sum(dim=1, keepdim=True))
    return sides[0], sides[1]


def sign_flips(examples: int, flips: int, *, seed: int) -> Float[Tensor, "flip n"]:
    """Random signs, one an example: the labels of two checkpoints swapped at random.

    Args:
        examples: how many there are.
        flips: how many rows to draw.
        seed: of the draws.

    Returns:
        1 or -1 for each example.
    """
    draws = torch.randint(2, (flips, examples), generator=generator(seed))
    return draws.double() * 2 - 1


# -- intervals


def mean_interval(
    values: Float[Tensor, "n k"],
    weights: Float[Tensor, "resample n"],
    *,
    level: float = LEVEL,
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Symmetric bootstrap-t interval of the mean of each column; see `mean_inference`.

    Args:
        values: one row for each example.
        weights: resamples of the examples, from `resample_weights`.
        level: how often the interval should hold the truth.

    Returns:
        Lower and upper ends.
    """
    low, high, _ = mean_inference(values, weights, level=level)
    return low, high


def mean_inference(
    values: Float[Tensor, "n k"],
    weights: Float[Tensor, "resample n"],
    *,
    level: float = LEVEL,
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Interval of each column's mean, and the two-sided p-value that it is 0.

    The interval is mean +- reach * standard error: reach is the quantile of |t| among the resamples
    (Hall 1988), and never less than Student's, which resamples of a handful of examples fall below.
    Of fewer than `FEW` examples it is Student's: many resamples of so few draw nearly one value
    only, and the quantile of their |t| says how many do. p is that of Student's t with its scale
    widened as far: at most 1 - level exactly where the interval excludes 0, yet with a tail as fine
    as a correction over tens of thousands of columns needs. A column of equal values has an
    interval of no width, and p = 1 or 0.

    Args:
        values: one row for each example.
        weights: resamples of the examples, from `resample_weights`.
        level: how often the interval should hold the truth.

    Returns:
        Lower ends, upper ends, and p-values.
    """
    count, columns = values.shape
    student = student_quantile(level, count - 1)
    width = max(1, _CHUNK // max(weights.shape[0], count))
    weight = weights.float().T.contiguous()
    means, errors, reaches = [], [], []
    for part in values.split(width, dim=1):
        mean = part.double().mean(dim=0)
        residuals = part.double() - mean
        spread = residuals.square().mean(dim=0).sqrt()
        # In place from here on: new tensors of this size take longer than the arithmetic.
        unit = residuals.div_(torch.where(spread > 0, spread, math.inf)).float().T
        shift = unit @ weight
        resampled = unit.square_() @ weight
        resampled.sub_(shift.square()).clamp_min_(0).sqrt_()
        # A resample that drew one value only has no spread: it says nothing, so 0.
        ratio = shift.abs_().div_(resampled).masked_fill_(resampled <= 1e-3, 0.0)
        means.append(mean)
        errors.append(spread / math.sqrt(count - 1))
        reaches.append(quantiles(ratio, level).double() * math.sqrt(count - 1))
    if not columns:
        nothing = values.new_zeros(0).double()
        return nothing, nothing, nothing
    mean, error = torch.cat(means), torch.cat(errors)
    reach = torch.cat(reaches).clamp_min(student)
    if count < FEW:
        reach.fill_(student)
    t = torch.where(mean == 0, 0.0, mean.abs() / error)
    p = student_tail(t * student / reach, count - 1)
    return mean - reach * error, mean + reach * error, p


def quantiles(values: Float[Tensor, "k m"], level: float) -> Float[Tensor, " k"]:
    """The quantile of each row, between two of its numbers where it lies there.

    In a quarter of the time of `numpy.quantile`, which puts two places in order: that of the upper
    number is enough, for the lower one is the largest of those before it. torch's sorts them all.

    Args:
        values: finite, on the CPU; their rows are left in another order.
        level: from 0 to 1.

    Returns:
        The quantiles, as NumPy rounds them.
    """
    place = level * (values.shape[1] - 1)
    lower = math.floor(place)
    upper = min(lower + 1, values.shape[1] - 1)
    values.numpy().partition(upper, axis=1)
    end = values[:, upper]
    start = values[:, :upper].amax(dim=1) if upper > lower else end
    return _between(start, end, place - lower)


def _between(
    start: Float[Tensor, " k"], end: Float[Tensor, " k"], share: float
) -> Float[Tensor, " k"]:
    """The number at a share of the way, as NumPy rounds it; `torch.lerp` fuses both steps."""
    way = end - start
    return start + way * share if share < 0.5 else end - way * (1 - share)


def bca_interval(
    estimate: Float[Tensor, " k"],
    replicates: Float[Tensor, "resample k"],
    influence: Float[Tensor, "n k"],
    *,
    level: float = LEVEL,
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Bias-corrected and accelerated interval of any statistic.

    Args:
        estimate: the statistic.
        replicates: the same of resamples.
        influence: how each example moves the statistic, up to a positive factor: its residual for a
            mean, jackknife mean minus jackknife value for others.
        level: how often the interval should hold the truth.

    Returns:
        Lower and upper ends.
    """
    count = replicates.shape[0]
    # Of few examples many resamples are the sample itself, but for the order of a sum.
    equal = (replicates - estimate).abs() <= _TIE * replicates.abs().amax(dim=0)
    less = (replicates < estimate) & ~equal
    below = less.double().mean(dim=0) + equal.double().mean(dim=0) / 2
    bias = _NORMAL.icdf(below.clamp(0.5 / count, 1 - 0.5 / count))
    power = influence.square().sum(dim=0)
    cubes = influence.pow(3).sum(dim=0)
    acceleration = torch.where(power > 0, cubes / (6 * power.pow(1.5)), 0.0)
    ordered = replicates.sort(dim=0).values
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + _NORMAL.icdf(torch.tensor(share, dtype=torch.float64))
        rank = _NORMAL.cdf(bias + shifted / (1 - acceleration * shifted)) * (count - 1)
        lower = rank.floor().long().clamp(0, count - 1)[None]
        upper = (lower + 1).clamp_max(count - 1)
        start, end = ordered.gather(0, lower)[0], ordered.gather(0, upper)[0]
        ends.append(torch.lerp(start, end, rank - lower[0]))
    return ends[0], ends[1]


def normal_interval(
    estimate: Float[Tensor, " k"], replicates: Float[Tensor, "resample k"], *, level: float = LEVEL
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """The estimate plus and minus a multiple of the resamples' standard deviation.

    NaN replicates are left out.

    Args:
        estimate: the statistic.
        replicates: the same of resamples.
        level: how often the interval should hold the truth.

    Returns:
        Lower and upper ends.
    """
    reach = _NORMAL.icdf(torch.tensor((1 + level) / 2)) * _spread(replicates)
    return estimate - reach, estimate + reach


def subset_interval(
    estimate: Float[Tensor, " k"],
    replicates: Float[Tensor, "subset k"],
    weights: Float[Tensor, "subset n"],
    *,
    freedom: Float[Tensor, " k"] | None = None,
    level: float = LEVEL,
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """The estimate plus and minus Student's quantile of its delete-d jackknife error.

    Shao and Wu 1989, "A general theory for jackknife variance estimation". For statistics that are
    not smooth, such as the overlap of two top-n sets. The interval is for what a sample of this
    size gives on average. NaN replicates are left out.

    Of a smooth statistic every share of the examples gives the same error. Of a count of means that
    pass a threshold, their margins spread evenly, the variance goes with the standard deviation of
    the noise: subsets of a share s give sqrt(s / (1 - s)) times the right one. Halves are right.

    Args:
        estimate: the statistic.
        replicates: the same on the subsets of `weights`.
        weights: of subsets, from `subset_weights`.
        freedom: degrees of freedom of each error, at least 1, infinite for a normal interval; None
            takes those of a mean, n - 1.
        level: how often the interval should hold the truth.

    Returns:
        Lower and upper ends.
    """
    count, size = weights.shape[1], int((weights[0] > 0).sum())
    if freedom is None:
        freedom = torch.full_like(estimate, count - 1)
    quantiles = special.stdtrit(freedom.double().floor().numpy(), (1 + level) / 2)
    reach = math.sqrt(size / (count - size)) * torch.from_numpy(quantiles) * _spread(replicates)
    return estimate - reach, estimate + reach


def jackknife_interval(
    estimate: Float[Tensor, " k"], left_out: Float[Tensor, "n k"], *, level: float = LEVEL
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """The estimate plus and minus its jackknife standard error times Student's quantile.

    For smooth statistics only.

    Args:
        estimate: the statistic.
        left_out: the same without each example in turn.
        level: how often the interval should hold the truth.

    Returns:
        Lower and upper ends.
    """
    reach = student_quantile(level, len(left_out) - 1) * jackknife_error(left_out)
    return estimate - reach, estimate + reach


def jackknife_error(left_out: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """Standard error of a smooth statistic from its values without each example in turn.

    Args:
        left_out: the statistic without each example in turn.

    Returns:
        The standard error of each column.
    """
    count = left_out.shape[0]
    return (left_out - left_out.mean(dim=0)).square().sum(dim=0).mul((count - 1) / count).sqrt()


def _spread(replicates: Float[Tensor, "resample k"]) -> Float[Tensor, " k"]:
    """Standard deviation of each column's defined values."""
    return (replicates - replicates.nanmean(dim=0)).square().nanmean(dim=0).sqrt()
