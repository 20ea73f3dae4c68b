"""Where on the straight path from corrupted to clean the gradient is taken, and with what weight.

Position 0 is the corrupted embedding, 1 the clean one; weights sum to 1. docs/quadrature.md has the
study behind the choices here (`scripts/study_quadrature.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.options.choices import Quadrature


@dataclass(frozen=True)
class Rule:
    """Nodes on the path and their weights; calibrated: to be fitted to each example's path
    (`calibration`).

    shifts: what is added to every node, an example each; None adds nothing.
    """

    nodes: tuple[float, ...]
    weights: tuple[float, ...]
    calibrated: bool = False
    shifts: Float[Tensor, " batch"] | None = None


def left(steps: int) -> Rule:
    """k / m, k = 0 .. m-1, equal weights: the Riemann sum of Hanna et al. (2024).

    The error falls as 1/m.
    """
    return Rule(tuple(k / steps for k in range(steps)), (1 / steps,) * steps)


def right(steps: int) -> Rule:
    """k / m, k = 1 .. m, equal weights. The error falls as 1/m."""
    return Rule(tuple((k + 1) / steps for k in range(steps)), (1 / steps,) * steps)


def midpoint(steps: int) -> Rule:
    """(k + 1/2) / m, equal weights. The error falls as 1/m^2."""
    return Rule(tuple((k + 0.5) / steps for k in range(steps)), (1 / steps,) * steps)


def corrected_midpoint(steps: int) -> Rule:
    """The midpoint rule with the first term of its Euler-Maclaurin error taken off.

    That term is h^2 / 24 (g'(1) - g'(0)), h = 1/m; the derivatives are estimated by the difference
    of the two outermost values at each end, which moves 1/24 of a weight from the second value to
    the first. With fewer than three steps it is the midpoint rule.
    """
    weights = np.full(steps, 1 / steps)
    if steps > 2:
        weights[[0, -1]] += 1 / (24 * steps)
        np.subtract.at(weights, [1, -2], 1 / (24 * steps))
    return Rule(midpoint(steps).nodes, tuple(weights.tolist()))


def trapezoid(steps: int) -> Rule:
    """k / (m-1), k = 0 .. m-1, half weight at the ends. The error falls as 1/m^2."""
    if steps < 2:
        raise CircuitsError(f"steps={steps}: the trapezoidal rule needs at least 2, both ends")
    weights = [1 / (steps - 1)] * steps
    weights[0] = weights[-1] = weights[0] / 2
    return Rule(tuple(k / (steps - 1) for k in range(steps)), tuple(weights))


def gauss_legendre(steps: int) -> Rule:
    """Exact for polynomials up to degree 2m - 1: the best where the gradient changes smoothly."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return Rule(tuple(((nodes + 1) / 2).tolist()), tuple((weights / 2).tolist()))


_CROWDING, _CROWDING_NESTED = 0.5, 0.2  # best of 0 to 0.6 on the models of docs/quadrature.md


def calibrated(steps: int) -> Rule:
    """Midpoints crowded in the middle of the path, weights calibrated to each example.

    The points are a(t) = t + c / 2 pi sin(2 pi t) at t = (k + 1/2) / m, c = 1/2: half as far apart
    in the middle, where models change their mind, one and a half times at the ends, where little
    happens. The weights here are da/dt / m, before calibration.
    """
    return _crowded([(k + 0.5) / steps for k in range(steps)], [1.0] * steps, _CROWDING)


def _crowded(points: list[float], weights: list[float], crowding: float) -> Rule:
    t = np.array(points)
    nodes = t + crowding / (2 * np.pi) * np.sin(2 * np.pi * t)
    scaled = np.array(weights) * (1 + crowding * np.cos(2 * np.pi * t))
    return Rule(tuple(nodes.tolist()), tuple((scaled / scaled.sum()).tolist()), calibrated=True)


def _inside(panels: int) -> Rule:
    """t = k / n without both ends, whose part the first and the last two points take by a line."""
    weights = [1.0] * (panels - 1)
    weights[0] = weights[-1] = 15 / 8
    weights[1] = weights[-2] = 5 / 8
    return _crowded([k / panels for k in range(1, panels)], weights, _CROWDING_NESTED)


RULES: dict[Quadrature, Callable[[int], Rule]] = {
    "midpoint": midpoint,
    "corrected-midpoint": corrected_midpoint,
    "gauss-legendre": gauss_legendre,
    "trapezoid": trapezoid,
    "left": left,
    "right": right,
    "calibrated": calibrated,
}
"""Quadratures by name."""


def rule(quadrature: Quadrature, steps: int) -> Rule:
    """The named quadrature with `steps` nodes."""
    if steps < 1:
        raise CircuitsError(f"steps={steps}: it must be at least 1")
    if quadrature not in RULES:
        raise CircuitsError(f"unknown quadrature {quadrature!r}; known: {', '.join(RULES)}")
    return RULES[quadrature](steps)


def staggered(steps: int, indices: Int[Tensor, " batch"]) -> Rule:
    """k / m and a shift below 1 / m of each example's own, equal weights.

    Over examples the shifts fill the interval evenly (multiples of the golden ratio), so that what
    a few nodes miss of one example's path averages out over many: mean scores have no error of
    quadrature but what sampling has. A single example's scores do.

    indices: of the examples in their set; the shift of each depends on nothing else.
    """
    golden = (math.sqrt(5) - 1) / 2
    shifts = torch.remainder((indices.double() + 0.5) * golden, 1.0) / steps
    return Rule(tuple(k / steps for k in range(steps)), (1 / steps,) * steps, shifts=shifts.float())


STAGGERED = "staggered"
"""The name of that rule, which is for means over many examples."""

CLEAN = Rule((1.0,), (1.0,))
"""The gradient of the clean run alone."""

ENDPOINTS = trapezoid(2)
"""The corrupted and the clean run alone."""

LEVELS = (
    _crowded([k / 8 for k in range(1, 8, 2)], [1.0] * 4, _CROWDING_NESTED),
    *(_inside(8 * 2**level) for level in range(4)),
)
"""Nested calibrated rules of 4, 7, 15, 31 and 63 points: each has all points of the one before."""
