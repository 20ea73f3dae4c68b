"""Where on the straight path from corrupted to clean the gradient is taken, and with what weight.

Position 0 is the corrupted embedding, 1 the clean one; weights sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from circuits.errors import CircuitsError

OFFSETS = {"midpoint": 0.5, "left": 0.0}
"""Name -> where in each of the equal parts of the path its node lies."""


@dataclass(frozen=True)
class Rule:
    """Nodes on the path and their weights."""

    nodes: tuple[float, ...]
    weights: tuple[float, ...]


def rule(quadrature: str, steps: int) -> Rule:
    """A quadrature rule of `steps` nodes.

    midpoint: (k + 1/2) / m. left: k / m, k = 0 .. m-1, the Riemann sum of Hanna et al. (2024).
    """
    if steps < 1:
        raise CircuitsError(f"steps={steps}: it must be at least 1")
    if quadrature not in OFFSETS:
        raise CircuitsError(f"unknown quadrature {quadrature!r}; known: {', '.join(OFFSETS)}")
    nodes = tuple((step + OFFSETS[quadrature]) / steps for step in range(steps))
    return Rule(nodes, (1 / steps,) * steps)


CLEAN = Rule((1.0,), (1.0,))
"""The gradient of the clean run alone."""
