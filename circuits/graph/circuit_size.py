"""Is a size one that a circuit of a model can have?"""

from __future__ import annotations

from numbers import Integral

from circuits.errors import CircuitsError


def require_size(size: int, n: int, level: str) -> None:
    """Refuse a size that the model does not have, and a share in the place of a number.

    Args:
        size: asked for, before pruning.
        n: how many edges, nodes or neurons the model has.
        level: what a circuit is of: edge, node or neuron.

    Raises:
        CircuitsError: where no circuit has this size.
    """
    if not isinstance(size, Integral):
        raise CircuitsError(
            f"size {size!r}: it is a number of {level}s, not a share; this model has {n}"
        )
    if not 0 <= size <= n:
        raise CircuitsError(f"{size} {level}s asked for; this model has {n}")
