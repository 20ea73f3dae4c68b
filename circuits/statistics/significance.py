"""Student's t and false discovery rates; both are SciPy's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from circuits.errors import CircuitsError


def student_tail(t: Float[Tensor, " k"], freedom: int) -> Float[Tensor, " k"]:
    """P(|T| >= |t|) under Student's t, with relative precision in the far tail; 0 at infinity.

    Args:
        t: the statistic.
        freedom: degrees of freedom.

    Returns:
        The two-sided p-value.
    """
    tail = special.stdtr(_with_freedom(freedom), -t.double().abs().numpy())
    return 2 * torch.from_numpy(tail)


def student_quantile(level: float, freedom: int) -> float:
    """The t that |T| stays below with probability `level`.

    Args:
        level: the probability.
        freedom: degrees of freedom, at least 1.

    Returns:
        The quantile.
    """
    return float(special.stdtrit(_with_freedom(freedom), (1 + level) / 2))


def _with_freedom(freedom: int) -> int:
    if freedom < 1:
        raise CircuitsError("a t test needs at least two examples")
    return freedom


def benjamini_hochberg(p: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """q-values: the false discovery rate at which each hypothesis would just be rejected.

    Args:
        p: p-values of all hypotheses together.

    Returns:
        Their q-values, in the same order.

    Raises:
        CircuitsError: where a p-value is undefined.
    """
    from scipy.stats import false_discovery_control  # takes most of a second to import

    if bool(p.isnan().any()):
        raise CircuitsError(
            "a p-value is undefined: what is tested holds NaN or infinities, perhaps by overflow "
            "in the model (try float32)"
        )
    return torch.tensor(false_discovery_control(p.double().numpy()))
