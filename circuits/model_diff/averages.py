"""Means over documents with bootstrap intervals: what every figure of the internals is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.runtime.files import number
from circuits.statistics import mean_interval, resample_weights


@dataclass(frozen=True)
class Averages:
    """Estimates with 95 % intervals, any shape."""

    value: Float[Tensor, "*shape"]
    low: Float[Tensor, "*shape"]
    high: Float[Tensor, "*shape"]

    def to_dict(self) -> dict[str, Any]:
        """JSON form: nested lists, None for what is undefined."""
        return {name: _numbers(tensor.tolist()) for name, tensor in vars(self).items()}

    def within(self, least: float, most: float) -> Averages:
        """The ends held to the values that the measure can have."""
        return Averages(self.value, self.low.clamp(least, most), self.high.clamp(least, most))

    def at(self, *place: int) -> tuple[float, float, float]:
        """Value, low and high at one place."""
        return float(self.value[place]), float(self.low[place]), float(self.high[place])


def averages(values: Float[Tensor, "doc ..."], *, n_resamples: int, seed: int) -> Averages:
    """Mean over the first axis with its bootstrap-t interval over that axis."""
    weights = resample_weights(len(values), n_resamples, seed=seed)
    low, high = mean_interval(values.reshape(len(values), -1), weights)
    shape = values.shape[1:]
    mean: Tensor = values.double().mean(dim=0)
    return Averages(mean, low.reshape(shape), high.reshape(shape))


def share_below_zero(
    values: Float[Tensor, "doc column"], *, n_resamples: int, seed: int
) -> Averages:
    """Share of columns whose mean is negative.

    The interval resamples documents (percentile: a share takes few values).
    """
    weights = resample_weights(len(values), n_resamples, seed=seed)
    shares = (weights @ values.double() < 0).double().mean(dim=1)
    low, high = shares.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return Averages((values.double().mean(dim=0) < 0).double().mean(), low, high)


def _numbers(value: Any) -> Any:
    return [_numbers(one) for one in value] if isinstance(value, list) else number(value)
