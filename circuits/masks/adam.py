"""Adam on one tensor, with all of its state in tensors that a file can hold."""

from __future__ import annotations

import torch
from torch import Tensor

_BETAS = (0.9, 0.99)
_EPS = 1e-6  # gradients below it are rounding, which must not become steps as long as others


class Adam:
    """Kingma & Ba (2015).

    values: what is optimised, changed in place. state: two moments.
    """

    def __init__(self, values: Tensor, rate: float) -> None:
        self.values, self._rate = values, rate
        self.state = (torch.zeros_like(values), torch.zeros_like(values))

    def descend(self, gradient: Tensor, step: int) -> None:
        """Take a step.

        Args:
            gradient: at the values.
            step: which, from 1.
        """
        for moment, beta, now in zip(
            self.state, _BETAS, (gradient, gradient.square()), strict=True
        ):
            moment.lerp_(now, 1 - beta)
        mean, square = (
            moment / (1 - beta**step) for moment, beta in zip(self.state, _BETAS, strict=True)
        )
        self.values.sub_(self._rate * mean / (square.sqrt() + _EPS))
