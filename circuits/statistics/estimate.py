"""Bootstrap intervals, over examples, of anything computed from means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import UndefinedMetricError
from circuits.runtime.result_file import AsList, MaybeUndefined
from circuits.statistics import LEVEL, bca_interval, mean_interval, resample_weights

Statistic = Callable[[Float[Tensor, "*resample column"]], Float[Tensor, "*resample k"]]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval over n examples.

    Attributes:
        value: the figure; NaN where undefined.
        low: lower end; NaN where undefined, and of a single example.
        high: upper end; the same.
        n: number of examples.
    """

    value: MaybeUndefined
    low: MaybeUndefined
    high: MaybeUndefined
    n: int

    def __repr__(self) -> str:  # a result holds many: three times 17 digits could not be read
        return f"Estimate({self.value:.6g} [{self.low:.6g}, {self.high:.6g}], n={self.n})"

    def __str__(self) -> str:
        value, low, high = (
            "-" if math.isnan(x) else f"{round(x, 3) + 0.0:.3f}"  # + 0.0: no minus before a zero
            for x in (self.value, self.low, self.high)
        )
        return f"{value} [{low}, {high}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and 0 lies outside it."""
        return self.low > 0 or self.high < 0

    @property
    def complement(self) -> Estimate:
        """1 minus this figure."""
        return Estimate(1 - self.value, 1 - self.high, 1 - self.low, self.n)

    def minus(self, other: Estimate) -> Estimate:
        """This figure less one of independent examples, with the interval that follows from both.

        Source: Zou and Donner (2008), Construction of confidence limits about effect measures,
        Statistics in Medicine 27.

        Args:
            other: what is taken off.

        Returns:
            The difference; n is the smaller of both.
        """
        value = self.value - other.value
        low = value - math.hypot(self.value - self.low, other.high - other.value)
        high = value + math.hypot(self.high - self.value, other.value - other.low)
        return Estimate(value, low, high, min(self.n, other.n))

    def above(self, other: Estimate) -> bool:
        """Whether this whole interval lies above another's.

        Args:
            other: the other figure.

        Returns:
            True where the lower end is above the other's upper end.
        """
        return self.low > other.high


@dataclass(frozen=True)
class Estimates:
    """Figures of one shape with their 95 % intervals over the same n examples.

    Attributes:
        value: the figures; NaN where undefined.
        low: lower ends, of the same shape.
        high: upper ends, of the same shape.
        n: number of examples.
    """

    value: Annotated[Float[Tensor, "*shape"], AsList()]
    low: Annotated[Float[Tensor, "*shape"], AsList()]
    high: Annotated[Float[Tensor, "*shape"], AsList()]
    n: int

    def __getitem__(self, index: int | tuple[int, ...]) -> Estimate:
        return Estimate(
            float(self.value[index]), float(self.low[index]), float(self.high[index]), self.n
        )

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Estimate]:
        """The figures of one axis, one by one."""
        return (self[index] for index in range(len(self)))

    def row(self, index: int) -> Estimates:
        """The figures at one index of the first axis.

        Args:
            index: which.

        Returns:
            Figures without the first axis.
        """
        return Estimates(self.value[index], self.low[index], self.high[index], self.n)

    def clamped(self, least: float, most: float) -> Estimates:
        """The ends of the intervals held to the values that the measure can have.

        Args:
            least: the smallest.
            most: the largest.

        Returns:
            The same figures with such ends.
        """
        return Estimates(
            self.value, self.low.clamp(least, most), self.high.clamp(least, most), self.n
        )


def mean_estimates(
    values: Float[Tensor, " example *shape"], *, n_resamples: int = 1000, seed: int = 0
) -> Estimates:
    """Means over the first axis with their symmetric bootstrap-t intervals (`mean_interval`).

    Args:
        values: one figure an example, of any shape.
        n_resamples: bootstrap resamples of the examples.
        seed: of the resamples.

    Returns:
        The means, without the first axis, in float64.
    """
    weights = resample_weights(len(values), n_resamples, seed=seed)
    low, high = mean_interval(values.reshape(len(values), -1), weights)
    shape = values.shape[1:]
    return Estimates(
        values.double().mean(dim=0), low.reshape(shape), high.reshape(shape), len(values)
    )


def estimates(
    values: Float[Tensor, "example column"],
    statistic: Statistic,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> list[Estimate]:
    """Bias-corrected and accelerated intervals (Efron and Tibshirani 1993, chapter 14).

    Examples are resampled together across columns, so whatever an example adds to both sides of a
    difference cancels. A ratio whose denominator is 0 in some resample has no value there; such
    resamples are left out. A single example has no interval; of fewer than `FEW` it is narrow, of
    two no more than their values.

    Args:
        values: one row for each example.
        statistic: from column means (leading axes are resamples) to k figures.
        n_resamples: bootstrap resamples of the examples.
        seed: of the resamples.

    Returns:
        An estimate for each of the k figures.

    Raises:
        UndefinedMetricError: where more than 5 % of the resamples have no value.
    """
    n = values.shape[0]
    values = values.double()
    point = statistic(values.mean(dim=0))
    if n == 1:
        return [Estimate(float(x), math.nan, math.nan, 1) for x in point]
    replicates = statistic(resample_weights(n, n_resamples, seed=seed).double() @ values)
    left_out = statistic((values.sum(dim=0) - values) / (n - 1))
    replicates, left_out = _defined(replicates), _defined(left_out)
    low, high = bca_interval(point, replicates, left_out.mean(dim=0) - left_out)
    return [
        Estimate(float(x), float(a), float(b), n) for x, a, b in zip(point, low, high, strict=True)
    ]


def _defined(rows: Float[Tensor, "resample k"]) -> Float[Tensor, "left k"]:
    """The resamples in which every figure exists."""
    exists = torch.isfinite(rows).all(dim=1)
    missing = int((~exists).sum())
    if missing > (1 - LEVEL) * len(rows):
        raise UndefinedMetricError(
            f"no interval: clean and corrupted metric are equal in {missing} of {len(rows)} "
            "resamples of the examples; use more examples, or a corruption that changes more of "
            "them"
        )
    return rows[exists]
