"""Statistical tests of what an ideal circuit is: as good as the model, and needed for the task.

- Equivalence. On an example the circuit's metric is above or below the model's. Of an ideal circuit
  that is a coin's throw: H0 says that the chance to be above lies within `margin` of one half. p is
  the chance of a count at least so uneven at the edge of H0, exact by the binomial distribution;
  equal metrics do not count. A circuit that is always a little below is rejected however little
  that is: the test asks whether the two differ, and f by how much.
- Independence. What the model keeps without the circuit's edges (nodes, neurons), those out of the
  input apart, should know nothing of the task: H0 says that its metric on an example is independent
  of the whole model's. The statistic is the Hilbert-Schmidt criterion with Gaussian kernels as wide
  as the median distance of either side's own values, p from permutations of the examples.

Rejected means: the circuit is not ideal. Not rejected means that these examples do not show it. The
paper's third test, of minimality, is in `minimality.py`.
Source: Shi et al. (2024), "Hypothesis Testing the Circuit Hypothesis in LLMs", arXiv 2410.13032,
whose tests these are. Its code (blei-lab/circuitry) compares mean differences of the metric with
one half where its text counts signs, and takes one kernel width from distances across the two
sides; here signs are counted, and each side has a width of its own, so that units do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.statistics import generator
from circuits.statistics.independence import independence_p

MARGIN = 0.1
LEVEL = 0.05
_PERMUTATIONS = 1000
_SAME = 1e-4  # of the largest metric: a difference below it is rounding


@dataclass(frozen=True)
class EquivalenceTest:
    """Whether the circuit is above the model on about half of the examples.

    above, below: on how many examples its metric is the higher, the lower one.
    p: of H0, a chance to be above within `margin` of one half.
    """

    above: int
    below: int
    margin: float
    p: float

    @property
    def rejected(self) -> bool:
        """Whether circuit and model are shown to differ, at the 5 % level."""
        return self.p <= LEVEL


@dataclass(frozen=True)
class IndependenceTest:
    """Whether what the model keeps without the circuit still knows of the task.

    rest: f of the model without the circuit's edges (nodes, neurons).
    p: of H0, that its metric is independent of the whole model's, over the examples.
    """

    rest: float
    p: float
    n: int

    @property
    def rejected(self) -> bool:
        """Whether the two are shown to depend on each other, at the 5 % level."""
        return self.p <= LEVEL


@dataclass(frozen=True)
class CircuitTests:
    """Tests of what an ideal circuit is; each rejected where it is not."""

    equivalence: EquivalenceTest
    independence: IndependenceTest


def equivalence_test(
    model: Float[Tensor, " example"], circuit: Float[Tensor, " example"], margin: float = MARGIN
) -> EquivalenceTest:
    """Test whether a circuit is above its model on about half of the examples.

    Args:
        model: the metric of each example.
        circuit: the same of the circuit.
        margin: how far from one half the chance may be.

    Returns:
        The counts, and p; 1 where all metrics are equal.
    """
    from scipy.stats import binom  # takes most of a second to import

    apart = circuit - model
    scale = float(torch.maximum(circuit.abs().amax(), model.abs().amax()))
    above, below = (int((side > _SAME * scale).sum()) for side in (apart, -apart))
    n = above + below
    # At least so uneven, either way, where the chance is as uneven as H0 allows.
    few = min(above, below)
    chance = 0.5 + margin
    tail = float(binom.cdf(few, n, chance) + binom.sf(n - few - 1, n, chance))
    return EquivalenceTest(above, below, margin, min(1.0, tail) if n else 1.0)


def independence_test(
    model: Float[Tensor, " example"],
    rest: Float[Tensor, " example"],
    corrupted: Float[Tensor, " example"],
    *,
    seed: int,
) -> IndependenceTest:
    """Test whether what is left of a model without a circuit knows of the task.

    Args:
        model: the metric of each example.
        rest: the same of the model without the circuit.
        corrupted: the same of no edge, which f is measured from.
        seed: of the permutations.

    Returns:
        f of what is left, and p.
    """
    p = independence_p(model, rest, permutations=_PERMUTATIONS, draw=generator(seed))
    none = corrupted.mean()
    share = (rest.mean() - none) / (model.mean() - none)
    return IndependenceTest(float(share), p, len(model))
