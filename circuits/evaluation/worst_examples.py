"""The examples on which a circuit keeps least, beside the mean.

f is a ratio of means, and a mean hides that a circuit may do nothing for some examples. Each
example's share is taken in units of the mean behaviour, so that it exists where an example's own
behaviour is near 0, and its mean over the examples is f itself:

    share_i = 1 - (m_i(model) - m_i(C)) / (mean m(model) - mean m(none))

`worst` is the mean share of the tenth of the examples with the least share (at least one): the
expected shortfall. Its interval is of a bootstrap that finds the tenth again in each resample.
Control: the same of a random circuit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.evaluation.measure import Measured
from circuits.statistics import bca_interval, resample_weights
from circuits.statistics.estimate import Estimate

TENTH = 0.1
_NAMED = 5
_RESAMPLES = 1000


@dataclass(frozen=True)
class WorstExamples:
    """Shares of the behaviour that a circuit keeps of single examples.

    worst: the mean share of the tenth that keeps least. control: the same of a random circuit.
    n_worst: how many examples that is.
    below_half: the share of examples of which less than half is kept.
    rows: the worst of them, at most five, worst first, by their place in the data; their shares
        beside them.
    """

    worst: Estimate
    control: Estimate
    n_worst: int
    below_half: float
    rows: tuple[tuple[str, float], ...]


def worst_examples(measured: Measured, sources: Sequence[str], *, seed: int) -> WorstExamples:
    """Where a circuit keeps least.

    Args:
        measured: of the circuit and a random one, in this order.
        sources: where each example stands in the data.
        seed: of the bootstrap.

    Returns:
        The worst tenth, beside the control's, with 95 % intervals over the examples.
    """
    between = measured.clean.mean() - measured.corrupted.mean()
    shares = 1 - (measured.clean - measured.circuits[:, 0]) / between
    order = shares.argsort(stable=True)[:_NAMED].tolist()
    worst, of_control = (_estimate(measured, column, seed) for column in (0, 1))
    return WorstExamples(
        worst=worst,
        control=of_control,
        n_worst=_count(len(shares)),
        below_half=float((shares < 0.5).double().mean()),
        rows=tuple((sources[index], float(shares[index])) for index in order),
    )


def _count(n: int) -> int:
    return math.ceil(TENTH * n)


def _estimate(measured: Measured, column: int, seed: int) -> Estimate:
    """The worst tenth's mean, of the examples, of resamples of them, and without each of them."""
    lost = measured.clean - measured.circuits[:, column]
    full_effect = measured.clean - measured.corrupted
    n = len(lost)
    # Where the corrupted metric is the higher one, what is lost is below 0.
    worst_first = (lost * full_effect.mean().sign()).argsort(descending=True, stable=True)
    lost, full_effect = lost[worst_first], full_effect[worst_first]

    def tail(counts: Float[Tensor, "draw n"]) -> Float[Tensor, " draw"]:
        """counts: how often each example was drawn, worst first."""
        room = TENTH * counts.sum(dim=1, keepdim=True)
        room = room.ceil()
        before = counts.cumsum(dim=1) - counts
        tail_counts = (room - before).clamp(min=0).minimum(counts)
        between = counts @ full_effect / counts.sum(dim=1)
        return 1 - tail_counts @ lost / room[:, 0] / between

    value = float(tail(torch.ones(1, n, dtype=torch.float64)))
    if n == 1:
        return Estimate(value, math.nan, math.nan, 1)
    drawn = (n * resample_weights(n, _RESAMPLES, seed=seed)).round().double()
    without = 1 - torch.eye(n, dtype=torch.float64)
    left_out = tail(without)
    replicates = tail(drawn)
    low, high = bca_interval(
        torch.tensor([value], dtype=torch.float64),
        replicates[replicates.isfinite(), None],  # without those where nothing lies between
        (left_out.mean() - left_out)[:, None],
    )
    return Estimate(value, float(low), float(high), n)
