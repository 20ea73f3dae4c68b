"""Are two figures of the same examples independent? A permutation test that sees any dependence.

The statistic is the Hilbert-Schmidt independence criterion with Gaussian kernels, each as wide as
the median distance between its own values.
Source: Gretton et al. (2007), "A Kernel Statistical Test of Independence".
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_MOST = 512  # examples
_CHUNK = 2**20  # numbers held at once per buffer
_TIE = 1e-9  # of the statistic: values that differ by rounding only


def independence_p(
    x: Float[Tensor, " n"],
    y: Float[Tensor, " n"],
    *,
    permutations: int,
    draw: torch.Generator,
) -> float:
    """The p-value of independence.

    Args:
        x: a figure of each example; of more than 512 the first are looked at.
        y: another, in the same order.
        permutations: orders of the examples to compare with.
        draw: their source.

    Returns:
        The share of orders, the given one counted, in which the two depend on each other at least
        as much; 1 where either is the same for all examples.
    """
    left, right = (_kernel(side[:_MOST].double()) for side in (x, y))
    if left is None or right is None:
        return 1.0
    n = len(left)
    left = left - left.mean(dim=0, keepdim=True)
    left = left - left.mean(dim=1, keepdim=True)  # centred on both sides, which is enough for one
    observed = float((left * right).sum())
    least = observed - _TIE * abs(observed)
    reached = 1
    for part in torch.arange(permutations).split(max(1, _CHUNK // n**2)):
        orders = torch.stack([torch.randperm(n, generator=draw) for _ in part])
        shuffled = right[orders[:, :, None], orders[:, None, :]]
        reached += int(((left * shuffled).sum(dim=(1, 2)) >= least).sum())
    return reached / (1 + permutations)


def _kernel(values: Float[Tensor, " n"]) -> Float[Tensor, "n n"] | None:
    """None where all values are equal."""
    apart = (values[:, None] - values[None, :]).square()
    upper = apart[torch.ones_like(apart, dtype=torch.bool).triu(1)]
    positive = upper[upper > 0]
    if not len(positive):
        return None
    width = upper.median()
    # Where more than half of all are equal, the median of those that are not.
    width = width if width > 0 else positive.median()
    return torch.exp(-apart / (2 * width))
