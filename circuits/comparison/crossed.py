"""Several circuits and a random one on one model and one set of pairs, as figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import UndefinedMetricError
from circuits.evaluation.measure import Measured, faithfulness_from_means
from circuits.statistics.estimate import Estimate, estimates


@dataclass(frozen=True)
class Crossed:
    """What a row of `cross_evaluate` and of `cross_tasks` says, but for its name.

    clean, corrupted: means of the metric over the whole model's runs; NaN where f is undefined.
    f: of each circuit, in their order; empty where it is undefined.
    behind: f of the row's own circuit less f of each, paired by example; None without one.
    control: f of the random circuit.
    undefined: why there is no f.
    """

    clean: float
    corrupted: float
    f: tuple[Estimate, ...] = ()
    behind: tuple[Estimate, ...] | None = None
    control: Estimate | None = None
    undefined: str | None = None

    @classmethod
    def of(cls, measured: Measured, own: int | None, *, n_resamples: int, seed: int) -> Crossed:
        """Figures with their intervals.

        Args:
            measured: the circuits, and the random one behind them.
            own: place of the circuit that belongs to the row.
            n_resamples: bootstrap resamples of the examples, for BCa intervals.
            seed: of the resamples.

        Returns:
            The figures.
        """
        statistic = _with_losses(own)
        figures = estimates(measured.columns, statistic, n_resamples=n_resamples, seed=seed)
        count = measured.circuits.shape[1] - 1
        return cls(
            clean=float(measured.clean.mean()),
            corrupted=float(measured.corrupted.mean()),
            f=tuple(figures[:count]),
            behind=None if own is None else tuple(figures[count + 1 :]),
            control=figures[count],
        )

    @classmethod
    def without(cls, reason: UndefinedMetricError) -> Crossed:
        """A row without f."""
        return cls(math.nan, math.nan, undefined=str(reason))


def _with_losses(
    own_index: int | None,
) -> Callable[[Float[Tensor, "*resample column"]], Float[Tensor, "*resample k"]]:
    """f of each circuit and of the control, then how far each is behind the row's own circuit."""

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample k"]:
        f = faithfulness_from_means(means)
        if own_index is None:
            return f
        return torch.cat([f, f[..., own_index : own_index + 1] - f[..., :-1]], dim=-1)

    return figures
